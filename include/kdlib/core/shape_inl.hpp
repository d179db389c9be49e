// SPDX-License-Identifier: Apache-2.0
// Bodies of core/shape.hpp.
#ifndef KDLIB_CORE_SHAPE_INL_HPP
#define KDLIB_CORE_SHAPE_INL_HPP

#include "kdlib/core/shape.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_FUNC std::string Shape::text() const {
  std::string out = "[";
  for (int i = 0; i < rank_; ++i) {
    if (i != 0) out += ", ";
    out += std::to_string(extents_[i]);
  }
  return out + "]";
}

KDLIB_FUNC void Shape::refuse_rank(std::size_t rank) {
  fail<ShapeError>("[Shape] rank ", rank, " is above the limit of ", max_rank);
}

KDLIB_FUNC void Shape::refuse_extent(std::int64_t extent) const {
  require<ShapeError>(rank_ < max_rank, "[Shape] rank above the limit of ", max_rank);
  fail<ShapeError>("[Shape] extent ", extent, " is negative");
}

KDLIB_NAMESPACE_END

#endif
