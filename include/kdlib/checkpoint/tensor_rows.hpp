// SPDX-License-Identifier: Apache-2.0
// Which rows of a parameter a tensor of a file holds. Loaders and writers of every format share it.
#ifndef KDLIB_CHECKPOINT_TENSOR_ROWS_HPP
#define KDLIB_CHECKPOINT_TENSOR_ROWS_HPP

#include <cstdint>
#include <string>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN

/// Which row of a parameter [.., width] each row of a tensor is. A vector has rows of one value.
struct TensorRows {
  std::int64_t rows = 0, width = 0;
  std::int64_t offset = 0;  // the parameter's row that is row 0 here
  std::int64_t head = 0;    // > 0: rows of a head of this size are interleaved (q and k of architecture llama)
  std::int64_t group = 0;   // > 0: an expert's rows in the parameter, of which the tensor has first, first + step, ...
  std::int64_t first = 0, step = 1;
  int added = 0;  // values here are the parameter's and this (1 for Gemma's norms in GGUF, which hold 1 + weight)

  /// The parameter's row that is row `row` here.
  std::int64_t source(std::int64_t row) const;
  /// True where consecutive rows are consecutive in the parameter.
  bool consecutive() const { return head == 0 && group == 0; }
  /// "all rows", "rows 12 to 23", "every second row, from 1 on".
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
