// SPDX-License-Identifier: Apache-2.0
// Copies selected rows of a matrix one behind the other, for example the rows of the loss among all tokens.
#ifndef KDLIB_TENSOR_TAKE_ROWS_HPP
#define KDLIB_TENSOR_TAKE_ROWS_HPP

#include <cstdint>
#include <span>

#include "kdlib/tensor/tensor.hpp"

KDLIB_NAMESPACE_BEGIN

/// Calls copy(place, row, count) for each run of neighbouring rows. Answers are contiguous, so there are few runs.
template <class F>
void each_row_run(std::span<const std::int64_t> rows, F&& copy) {
  std::size_t begin = 0;
  while (begin < rows.size()) {
    std::size_t end = begin + 1;
    while (end < rows.size() && rows[end] == rows[end - 1] + 1) ++end;
    copy(static_cast<std::int64_t>(begin), rows[begin], static_cast<std::int64_t>(end - begin));
    begin = end;
  }
}

/// Copies row rows[i] of `source` [N, width] to row i of `out`, which must hold at least rows.size() rows of that
/// width.
template <class T, class D>
void take_rows(View<const T, D> source, std::span<const std::int64_t> rows, View<T, D> out) {
  const std::int64_t width = source[1];
  each_row_run(rows, [&](std::int64_t place, std::int64_t row, std::int64_t count) {
    Memory<D>::copy(out.data() + place * width, source.data() + row * width,
                    static_cast<std::size_t>(count * width) * sizeof(T));
  });
}

KDLIB_NAMESPACE_END

#endif
