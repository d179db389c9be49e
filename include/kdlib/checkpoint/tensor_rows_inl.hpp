// SPDX-License-Identifier: Apache-2.0
// Bodies of tensor_rows.hpp.
#ifndef KDLIB_CHECKPOINT_TENSOR_ROWS_INL_HPP
#define KDLIB_CHECKPOINT_TENSOR_ROWS_INL_HPP

#include "kdlib/checkpoint/tensor_rows.hpp"
#include "kdlib/core/error.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_FUNC std::string TensorRows::text(std::int64_t parameter_rows) const {
  if (head > 0) return concat("interleaved by heads of ", head);
  if (step == 2) return concat("every second row, from ", first, " on");
  if (group > 0) return concat("rows ", first, " to ", first + group / 2 - 1, " of each expert");
  if (added != 0) return concat("all rows, less ", added);
  if (offset == 0 && (rows == parameter_rows || width == 1)) return "all rows";
  return concat("rows ", offset, " to ", offset + rows - 1);
}

KDLIB_NAMESPACE_END

#endif
