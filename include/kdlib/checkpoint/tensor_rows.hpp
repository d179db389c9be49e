// SPDX-License-Identifier: Apache-2.0
// Describes which rows of a parameter a tensor of a file holds. Loaders and writers of every format share this
// description.
#ifndef KDLIB_CHECKPOINT_TENSOR_ROWS_HPP
#define KDLIB_CHECKPOINT_TENSOR_ROWS_HPP

#include <cstdint>
#include <string>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN

/// Says for each row of a tensor which row of a parameter [.., width] it is. A vector has rows of one value.
struct TensorRows {
  std::int64_t rows = 0, width = 0;
  std::int64_t offset = 0;  // the parameter's row that is row 0 of the tensor
  std::int64_t head = 0;    // > 0: rows are interleaved inside heads of this size (q and k of architecture llama)
  std::int64_t group = 0;   // > 0: the parameter's rows of an expert; the tensor has half: first, first + step, ...
  std::int64_t first = 0, step = 1;
  int added = 0;  // the tensor's values are the parameter's plus this number (1 for Gemma's norms in GGUF: 1 + weight)

  /// Returns the parameter's row that is row `row` of the tensor.
  std::int64_t source(std::int64_t row) const;
  /// True if consecutive rows of the tensor are consecutive in the parameter.
  bool consecutive() const { return head == 0 && group == 0; }
  /// Returns the rows as text, such as "all rows", "rows 12 to 23" or "every second row, from 1 on".
  std::string text(std::int64_t parameter_rows) const;
};

inline std::int64_t TensorRows::source(std::int64_t row) const {
  if (head > 0) {
    const std::int64_t inside = row % head;
    return offset + row - inside + (inside % 2) * (head / 2) + inside / 2;
  }
  if (group > 0) return offset + row / (group / 2) * group + first + row % (group / 2) * step;
  return offset + row;
}

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/checkpoint/tensor_rows_inl.hpp"
#endif

#endif
