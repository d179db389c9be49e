// SPDX-License-Identifier: Apache-2.0
// Weights in codes and in the formats of files under a model in bf16: the float kernels decode and multiply.
#ifndef KDLIB_BACKEND_CPU_WIDENED_PACKED_INL_HPP
#define KDLIB_BACKEND_CPU_WIDENED_PACKED_INL_HPP

#include <algorithm>

#include "kdlib/backend/cpu/coded_inl.hpp"
#include "kdlib/backend/cpu/stored_inl.hpp"
#include "kdlib/backend/cpu/widened_elementwise_inl.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Calls decode(first row, rows, floats) for rows [0, count) a few at a time and rounds what it gives.
template <class T, class F>
void decode_narrow(std::int64_t count, std::int64_t columns, T* out, F&& decode) {
  const std::int64_t grain = 1 + (1 << 14) / (columns + 1);
  parallel_for(count, grain, [&](std::int64_t begin, std::int64_t end) {
    float* rows = coded_scratch<8>(grain * columns);
    for (std::int64_t r = begin; r < end; r += grain) {
      const std::int64_t some = std::min(grain, end - r);
      decode(r, some, rows);
      narrow_values(some * columns, rows, out + r * columns);
    }
  });
}

/// y[m, n] = multiply(x as floats) + beta * y, at most 1024 rows of x at a time.
template <class T, class F>
void multiply_narrow(std::int64_t m, std::int64_t n, std::int64_t k, const T* x, float beta, T* y, std::int64_t ldy,
                     F&& multiply) {
  constexpr std::int64_t most = 1024;
  const Buffer<float, Cpu> input(std::min(m, most) * k), sums(std::min(m, most) * n);
  for (std::int64_t i = 0; i < m; i += most) {
    const std::int64_t rows = std::min(most, m - i);
    WidenedElementwise<T>::widen(rows * k, x + i * k, input.data());
    if (beta != 0) widen_rows(rows, n, y + i * ldy, ldy, sums.data(), n);
    multiply(rows, input.data(), sums.data());
    parallel_for(rows, row_grain(n), [&](std::int64_t begin, std::int64_t end) {
      narrow_rows(end - begin, n, sums.data() + begin * n, n, y + (i + begin) * ldy, ldy);
    });
  }
}

template <class T>
void WidenedPacked<T>::coded_decode(const CodedRanges& weight, std::int64_t begin, std::int64_t count, T* out) {
  decode_narrow(count, weight.columns, out, [&](std::int64_t r, std::int64_t rows, float* to) {
    CpuPacked<float>::coded_decode(weight, begin + r, rows, to);
  });
}

template <class T>
void WidenedPacked<T>::coded_multiply_few(const CodedRanges& weight, std::int64_t m, const T* x, float beta, T* y) {
  const std::int64_t k = weight.columns;
  if (batch_invariant()) {  // as for more rows: through decoded values of T
    const Buffer<T, Cpu> decoded(weight.rows * k);
    coded_decode(weight, 0, weight.rows, decoded.data());
    return WidenedGemm<T>::gemm(false, true, m, weight.rows, k, 1.0f, x, k, decoded.data(), k, beta, y, weight.rows);
  }
  multiply_narrow(m, weight.rows, k, x, beta, y, weight.rows, [&](std::int64_t rows, const float* input, float* sums) {
    CpuPacked<float>::coded_multiply_few(weight, rows, input, beta, sums);
  });
}

template <class T>
void WidenedPacked<T>::stored_decode(const StoredRanges& weight, std::int64_t begin, std::int64_t count, T* out) {
  decode_narrow(count, weight.columns, out, [&](std::int64_t r, std::int64_t rows, float* to) {
    CpuPacked<float>::stored_decode(weight, begin + r, rows, to);
  });
}

template <class T>
void WidenedPacked<T>::stored_multiply(const StoredRanges& weight, std::int64_t begin, std::int64_t count,
                                       std::int64_t m, const T* x, float beta, T* y, std::int64_t ldy) {
  const std::int64_t k = weight.columns;
  if (const T* plain = weight.values<T>(begin, count))
    return WidenedGemm<T>::gemm(false, true, m, count, k, 1.0f, x, k, plain, k, beta, y, ldy);
  multiply_narrow(m, count, k, x, beta, y, ldy, [&](std::int64_t rows, const float* input, float* sums) {
    CpuPacked<float>::stored_multiply(weight, begin, count, rows, input, beta, sums, count);
  });
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
