// SPDX-License-Identifier: Apache-2.0
// Products with factors in bf16: by oneDNN where the CPU multiplies bf16, else tiles are widened to float in scratch of
// the thread and multiplied by the float kernels.
#ifndef KDLIB_BACKEND_CPU_WIDENED_GEMM_INL_HPP
#define KDLIB_BACKEND_CPU_WIDENED_GEMM_INL_HPP

#include <algorithm>

#include "kdlib/backend/cpu/coded_inl.hpp"
#include "kdlib/backend/cpu/gemm_inl.hpp"
#include "kdlib/backend/cpu/narrow_gemm_inl.hpp"
#include "kdlib/backend/cpu/narrow_rows_inl.hpp"
#include "kdlib/backend/cpu/stored_inl.hpp"
#include "kdlib/backend/cpu/widened.hpp"
#include "kdlib/backend/cpu/widened_rows_inl.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

constexpr std::int64_t widened_rows = 512;    // of a tile of A, and columns of a tile of B
constexpr std::int64_t widened_terms = 1536;  // terms of a tile: 3 MiB of floats for A, and as much for B
constexpr std::int64_t narrow_part = 64;      // rows of A for each thread from which oneDNN gets whole rows of C
constexpr std::int64_t widened_few = 48;      // columns of B's tile for few rows of A: a multiple of every tile's rows

/// A tile as floats: the array itself where it is one, else widened into scratch of this thread, which `Use` names.
struct FloatTile {
  const float* data = nullptr;
  std::int64_t ld = 0;

  template <int Use, class T>
  void take(const FloatOr<const float, const T>& x, std::int64_t ldx, std::int64_t rows, std::int64_t columns) {
    data = x.wide, ld = ldx;
    if (data != nullptr) return;
    float* to = coded_scratch<Use>(rows * columns);
    widen_rows(rows, columns, x.narrow, ldx, to, columns);
    data = to, ld = columns;
  }
};

template <class T>
void WidenedGemm<T>::gemm_serial(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k,
                                 float alpha, Input a, std::int64_t lda, Input b, std::int64_t ldb, float beta,
                                 Output c, std::int64_t ldc) {
#if defined(__x86_64__)
  if (a.narrow != nullptr && b.narrow != nullptr && ldb == k &&
      takes_narrow_rows(transpose_a, transpose_b, m, few_rows_limit))
    return narrow_rows_gemm(true, m, n, k, alpha, a.narrow, lda, b.narrow, beta, c, ldc);
#endif
#if defined(KDLIB_WITH_ONEDNN)
  if ((transpose_a || !batch_invariant()) && m * n * k >= narrow_work &&
      (m > narrow_few || transpose_a || !transpose_b) && narrow_unit() != NarrowUnit::none)
    return NarrowGemm{transpose_a, transpose_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc}.run();
#endif
  const bool direct = c.wide != nullptr;
  const std::int64_t width = !transpose_a && transpose_b && m <= few_rows_limit ? widened_few : widened_rows;
  FloatTile at, bt;
  for (std::int64_t i = 0; i < m; i += widened_rows) {
    const std::int64_t rows = std::min(widened_rows, m - i);
    for (std::int64_t j = 0; j < n; j += width) {
      const std::int64_t columns = std::min(width, n - j), ld = direct ? ldc : columns;
      const Output target = c + (i * ldc + j);
      float* sums = direct ? target.wide : coded_scratch<4>(rows * columns);
      if (!direct && beta != 0) widen_rows(rows, columns, target.narrow, ldc, sums, ld);
      if (k <= 0) scale_matrix(rows, columns, beta, sums, ld);
      for (std::int64_t p = 0; p < k; p += widened_terms) {
        const std::int64_t terms = std::min(widened_terms, k - p);
        if (j == 0 || k > widened_terms) {
          if (transpose_a) at.take<2>(a + (p * lda + i), lda, terms, rows);
          else at.take<2>(a + (i * lda + p), lda, rows, terms);
        }
        if (transpose_b) bt.take<3>(b + (j * ldb + p), ldb, columns, terms);
        else bt.take<3>(b + (p * ldb + j), ldb, terms, columns);
        CpuGemm<float>::gemm_serial(transpose_a, transpose_b, rows, columns, terms, alpha, at.data, at.ld, bt.data,
                                    bt.ld, p == 0 ? beta : 1.0f, sums, ld);
      }
      if (!direct) narrow_rows(rows, columns, sums, ld, target.narrow, ldc);
    }
  }
}

/// Few rows of A against a weight [n, k] that lies in order: the product with a file's values in bf16 does it, which
/// reads the weight once and never keeps it widened.
template <class T>
void few_rows_widened(std::int64_t m, std::int64_t n, std::int64_t k, float alpha, FloatOr<const float, const T> a,
                      std::int64_t lda, const T* b, float beta, FloatOr<float, T> c, std::int64_t ldc) {
  const Buffer<float, Cpu> x(m * k), y(c.wide != nullptr ? 0 : m * n);
  if (a.wide != nullptr) widen_rows(m, k, a.wide, lda, x.data(), k);
  else widen_rows(m, k, a.narrow, lda, x.data(), k);
  if (alpha != 1) KDLIB_VECTOR_CALL(scale, m * k, alpha, x.data());
  StoredRanges weight;
  const std::byte* part = reinterpret_cast<const std::byte*>(b);
  weight.type = GgufType::bf16;
  weight.parts = &part;
  weight.part_rows = weight.rows = n;
  weight.columns = k;
  if (c.wide != nullptr) return CpuPacked<float>::stored_multiply(weight, 0, n, m, x.data(), beta, c.wide, ldc);
  if (beta != 0) widen_rows(m, n, c.narrow, ldc, y.data(), n);
  CpuPacked<float>::stored_multiply(weight, 0, n, m, x.data(), beta, y.data(), n);
  narrow_rows(m, n, y.data(), n, c.narrow, ldc);
}

template <class T>
void WidenedGemm<T>::gemm(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k,
                          float alpha, Input a, std::int64_t lda, Input b, std::int64_t ldb, float beta, Output c,
                          std::int64_t ldc) {
  if (m * n <= 0) return;
  if (m * n * (k + 1) < gemm_parallel_work)
    return gemm_serial(transpose_a, transpose_b, m, n, k, alpha, a, lda, b, ldb, beta, c, ldc);
#if defined(__x86_64__)
  if (a.narrow != nullptr && b.narrow != nullptr && ldb == k &&
      takes_narrow_rows(transpose_a, transpose_b, m, few_rows_limit))
    return narrow_rows_gemm(false, m, n, k, alpha, a.narrow, lda, b.narrow, beta, c, ldc);
#endif
  const bool alone = batch_invariant() && !transpose_a;
  if (b.narrow != nullptr && !transpose_a && transpose_b && m <= few_rows_limit && ldb == k && !alone)
    return few_rows_widened(m, n, k, alpha, a, lda, b.narrow, beta, c, ldc);
  // oneDNN is faster on whole rows of C, and reads B once a part.
  const bool rows_first =
      !alone && narrow_unit() != NarrowUnit::none && !transpose_a && m >= narrow_part * thread_count();
  const bool split_columns = n >= m && !rows_first;
  parallel_for(split_columns ? n : m, gemm_grain, [&](std::int64_t begin, std::int64_t end) {
    if (split_columns)
      gemm_serial(transpose_a, transpose_b, m, end - begin, k, alpha, a, lda, b + (transpose_b ? begin * ldb : begin),
                  ldb, beta, c + begin, ldc);
    else
      gemm_serial(transpose_a, transpose_b, end - begin, n, k, alpha, a + (transpose_a ? begin : begin * lda), lda, b,
                  ldb, beta, c + begin * ldc, ldc);
  });
}

}  // namespace detail

inline std::string cpu_narrow_name() {
#if defined(KDLIB_WITH_ONEDNN)
  if (detail::narrow_unit() != detail::NarrowUnit::none) return "bf16 products by " + detail::onednn_name();
#endif
  return "bf16 products in float";
}

KDLIB_NAMESPACE_END

#endif
