// SPDX-License-Identifier: Apache-2.0
// Functors of the kernels that sum over rows or columns: norms, sums of columns, sums of squares. Every sum is formed
// in a fixed order.
#ifndef KDLIB_BACKEND_CUDA_REDUCTIONS_BODY_INL_HPP
#define KDLIB_BACKEND_CUDA_REDUCTIONS_BODY_INL_HPP

#include "kdlib/backend/cuda/block.hpp"
#include "kdlib/core/dtype.hpp"
#include "kdlib/core/math.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// The threads that share a row: a block of 256, or a warp of it for rows of at most `narrow_width`.
template <bool Narrow>
struct RowThreads {
  std::int64_t row, first, step;

  template <class B>
  KDLIB_HOST_DEVICE static RowThreads of(B& block) {
    if constexpr (Narrow) {
      return {warp_row(block), warp_lane(block), warp_threads};
    } else {
      return {block.block(), block.thread(), block.size()};
    }
  }
  template <class B, class C>
  KDLIB_HOST_DEVICE static C sum(B& block, C mine) {
    if constexpr (Narrow) return sum_of_warp(block, mine);
    else return sum_of_block(block, mine);
  }
};
constexpr std::int64_t narrow_width = 256;

/// y = x r weight, r = 1 / sqrt(mean(x^2) + epsilon).
template <class T, bool Narrow>
struct RmsNormRows {
  using C = accumulate_t<T>;
  static constexpr int threads = 256;
  const T* x;
  const T* weight;
  std::int64_t rows, width;
  C epsilon;
  T* y;
  C* inverse_rms;  // [rows] or nullptr

  template <class B>
  KDLIB_HOST_DEVICE void operator()(B& block) const {
    const auto at = RowThreads<Narrow>::of(block);
    const bool here = at.row < rows;  // a warp without a row still takes part in its shuffles
    const T* const from = x + at.row * width;
    C squares = 0;
    for (std::int64_t i = at.first; here && i < width; i += at.step)
      squares += static_cast<C>(from[i]) * static_cast<C>(from[i]);
    squares = RowThreads<Narrow>::sum(block, squares);
    if (!here) return;
    const C inverse = 1 / sqrt(squares / static_cast<C>(width) + epsilon);
    if (inverse_rms != nullptr && at.first == 0) inverse_rms[at.row] = inverse;
    T* const to = y + at.row * width;
    for (std::int64_t i = at.first; i < width; i += at.step)
      to[i] = T(static_cast<C>(from[i]) * inverse * static_cast<C>(weight[i]));
  }
};

/// dx (+)= r (g w) - x r^3 / width * sum(g w x).
template <class T, bool Narrow>
struct RmsNormGradient {
  using C = accumulate_t<T>;
  static constexpr int threads = 256;
  const T* x;
  const T* weight;
  const C* inverse_rms;
  const T* gradient;
  std::int64_t rows, width;
  T* x_gradient;
  bool accumulate;

  template <class B>
  KDLIB_HOST_DEVICE void operator()(B& block) const {
    const auto at = RowThreads<Narrow>::of(block);
    const bool here = at.row < rows;
    const T* const from = x + at.row * width;
    const T* const g = gradient + at.row * width;
    C sum = 0;
    for (std::int64_t i = at.first; here && i < width; i += at.step)
      sum += static_cast<C>(g[i]) * static_cast<C>(weight[i]) * static_cast<C>(from[i]);
    sum = RowThreads<Narrow>::sum(block, sum);
    if (!here) return;
    const C inverse = inverse_rms[at.row], factor = sum * inverse * inverse * inverse / static_cast<C>(width);
    T* const to = x_gradient + at.row * width;
    for (std::int64_t i = at.first; i < width; i += at.step) {
      C d = static_cast<C>(g[i]) * static_cast<C>(weight[i]) * inverse - static_cast<C>(from[i]) * factor;
      if (accumulate) d += static_cast<C>(to[i]);
      to[i] = T(d);
    }
  }
};

/// What ColumnPartials adds up: x itself, or the terms g x r of a norm's weight.
template <class T>
struct ColumnTerm {
  using C = accumulate_t<T>;
  const T* x;
  const T* gradient;     // nullptr: x alone
  const C* inverse_rms;  // [rows]
  std::int64_t width;

  KDLIB_HOST_DEVICE C operator()(std::int64_t r, std::int64_t c) const {
    const C value = static_cast<C>(x[r * width + c]);
    return gradient == nullptr ? value : static_cast<C>(gradient[r * width + c]) * value * inverse_rms[r];
  }
};

/// partial[chunk, column] = the sum over the chunk's rows, in order. block(): tile of columns; block_y(): chunk.
template <class T>
struct ColumnPartials {
  using C = accumulate_t<T>;
  static constexpr int threads = 256;
  ColumnTerm<T> term;
  std::int64_t rows, chunk_rows;
  C* partial;

  template <class B>
  KDLIB_HOST_DEVICE void operator()(B& block) const {
    const std::int64_t c = block.block() * block.size() + block.thread(), first = block.block_y() * chunk_rows;
    if (c >= term.width) return;
    C sum = 0;
    for (std::int64_t r = first; r < first + chunk_rows && r < rows; ++r) sum += term(r, c);
    partial[block.block_y() * term.width + c] = sum;
  }
};
/// sums[column] += the partial sums, in order.
template <class C>
struct ColumnTotals {
  std::int64_t chunks, width;
  const C* partial;
  C* sums;

  KDLIB_HOST_DEVICE void operator()(std::int64_t c) const {
    C sum = 0;
    for (std::int64_t k = 0; k < chunks; ++k) sum += partial[k * width + c];
    sums[c] += sum;
  }
};

/// partial[block] = the sum of squares of a chunk, in double.
template <class T>
struct SquarePartials {
  static constexpr int threads = 256;
  static constexpr std::int64_t chunk = std::int64_t{1} << 16;
  const T* x;
  std::int64_t n;
  double* partial;

  template <class B>
  KDLIB_HOST_DEVICE void operator()(B& block) const {
    const std::int64_t first = block.block() * chunk, end = first + chunk < n ? first + chunk : n;
    double sum = 0;
    for (std::int64_t i = first + block.thread(); i < end; i += block.size()) {
      const double v = static_cast<double>(static_cast<accumulate_t<T>>(x[i]));
      sum += v * v;
    }
    sum = sum_of_block(block, sum);
    if (block.thread() == 0) partial[block.block()] = sum;
  }
};
/// total[0] = the sum of all partial sums, by one block.
struct SquareTotal {
  static constexpr int threads = 256;
  std::int64_t count;
  const double* partial;
  double* total;

  template <class B>
  KDLIB_HOST_DEVICE void operator()(B& block) const {
    double sum = 0;
    for (std::int64_t i = block.thread(); i < count; i += block.size()) sum += partial[i];
    sum = sum_of_block(block, sum);
    if (block.thread() == 0) total[0] = sum;
  }
};

/// One warp a row: both gradients of y += sigmoid(gate) x.
template <class T>
struct AddGatedGradient {
  using C = accumulate_t<T>;
  static constexpr int threads = 256;
  const T* gate;
  const T* x;
  const T* y_gradient;
  std::int64_t rows, width;
  T* gate_gradient;
  T* x_gradient;

  template <class B>
  KDLIB_HOST_DEVICE void operator()(B& block) const {
    const auto at = RowThreads<true>::of(block);
    const bool here = at.row < rows;
    C sum = 0;
    const C sigmoid = here ? 1 / (1 + exp(-static_cast<C>(gate[at.row]))) : C(0);
    for (std::int64_t i = at.row * width + at.first; here && i < (at.row + 1) * width; i += at.step) {
      const C d = static_cast<C>(y_gradient[i]);
      sum += d * static_cast<C>(x[i]);
      x_gradient[i] = T(sigmoid * d);
    }
    sum = RowThreads<true>::sum(block, sum);
    if (here && at.first == 0) gate_gradient[at.row] = T(sum * sigmoid * (1 - sigmoid));
  }
};

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
