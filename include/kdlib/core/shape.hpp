// SPDX-License-Identifier: Apache-2.0
// The extents of a tensor of at most four dimensions, stored without allocation.
#ifndef KDLIB_CORE_SHAPE_HPP
#define KDLIB_CORE_SHAPE_HPP

#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "kdlib/core/error.hpp"

KDLIB_NAMESPACE_BEGIN

/// The extents (>= 0) of a tensor in row-major order: the last index changes fastest in memory. Rank 0 is a scalar with
/// one element. ShapeError: more than four extents, or a negative one.
class Shape {
 public:
  static constexpr int max_rank = 4;

  Shape() = default;
  Shape(std::initializer_list<std::int64_t> extents) {
    if (extents.size() > max_rank) refuse_rank(extents.size());
    for (const std::int64_t e : extents) push_back(e);
  }

  int rank() const { return rank_; }
  std::int64_t operator[](int i) const { return extents_[i]; }
  std::int64_t count() const {
    std::int64_t n = 1;
    for (int i = 0; i < rank_; ++i) n *= extents_[i];
    return n;
  }
  void push_back(std::int64_t extent) {
    if (rank_ >= max_rank || extent < 0) refuse_extent(extent);
    extents_[rank_++] = extent;
  }
  bool operator==(const Shape& o) const {
    if (rank_ != o.rank_) return false;
    for (int i = 0; i < rank_; ++i)
      if (extents_[i] != o.extents_[i]) return false;
    return true;
  }

  /// Returns a text such as "[8, 64]".
  std::string text() const;

 private:
  [[noreturn]] static void refuse_rank(std::size_t rank);
  /// Throws for one extent too many or for a negative extent.
  [[noreturn]] void refuse_extent(std::int64_t extent) const;

  std::int64_t extents_[max_rank] = {0, 0, 0, 0};
  int rank_ = 0;
};

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/core/shape_inl.hpp"
#endif

#endif
