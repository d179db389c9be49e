// SPDX-License-Identifier: Apache-2.0
// Products with weights that stay in the format of their file.
#ifndef KDLIB_BACKEND_CPU_STORED_INL_HPP
#define KDLIB_BACKEND_CPU_STORED_INL_HPP

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <vector>

#include "kdlib/backend/cpu/gemm_inl.hpp"
#include "kdlib/backend/cpu/isa_inl.hpp"
#include "kdlib/backend/stored_row_inl.hpp"
#include "kdlib/core/parallel.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Rows on the calling thread.
template <class T>
void decode_stored_rows(const StoredRanges& w, std::int64_t begin, std::int64_t count, T* out) {
  if constexpr (std::is_same_v<T, float>) {
    bool done = false;
    KDLIB_VECTOR_CALL(decode_stored, w, begin, count, out, done);
    for (std::int64_t r = 0; !done && r < count; ++r) decode_stored_row(w, begin + r, out + r * w.columns);
  } else {
    thread_local std::vector<float> row;
    row.resize(static_cast<std::size_t>(w.columns));
    for (std::int64_t r = 0; r < count; ++r) {
      decode_stored_rows<float>(w, begin + r, 1, row.data());
      std::copy(row.begin(), row.end(), out + r * w.columns);
    }
  }
}

template <class T>
void CpuPacked<T>::stored_decode(const StoredRanges& weight, std::int64_t begin, std::int64_t count, T* out) {
  const std::int64_t grain = 1 + (1 << 14) / (weight.columns + 1);
  parallel_for(count, grain, [&](std::int64_t first, std::int64_t last) {
    decode_stored_rows(weight, begin + first, last - first, out + first * weight.columns);
  });
}

/// Rows of x up to which products go straight over the blocks: where more are there, a panel of x is faster.
inline std::int64_t stored_direct_rows() {
  return cpu_level() == CpuLevel::avx512 ? 8 : (cpu_level() == CpuLevel::avx2 ? 4 : 0);
}

/// m <= stored_direct_rows(); false where the format has no vector code.
inline bool stored_multiply_direct(const StoredRanges& w, std::int64_t begin, std::int64_t count, std::int64_t m,
                                   const float* x, float beta, float* y, std::int64_t ldy) {
  thread_local std::vector<float> pairs;  // for the last row of x, which goes alone where m is odd
  pairs.assign(static_cast<std::size_t>(w.columns / 32 * 2 + 2), 0.0f);
  const bool minimum =
      w.type == GgufType::q4_1 || w.type == GgufType::q5_1 || w.type == GgufType::q4_k || w.type == GgufType::q5_k;
  const float* last = x + (m - 1) * w.columns;
  for (std::int64_t i = 0; minimum && m % 2 == 1 && i < w.columns; ++i)
    pairs[static_cast<std::size_t>(i / 32 * 2 + 1)] += last[i];
  const float* sums = pairs.data();
  std::atomic<bool> all{true};
  parallel_for(count, 16, [&](std::int64_t first, std::int64_t end) {
    bool done = false;
    KDLIB_VECTOR_CALL(dot_stored, w, begin + first, end - first, m, x, sums, beta, y + first, ldy, done);
    if (!done) all = false;
  });
  return all;
}

template <class T>
void CpuPacked<T>::stored_multiply(const StoredRanges& w, std::int64_t begin, std::int64_t count, std::int64_t m,
                                   const T* x, T beta, T* y, std::int64_t ldy) {
  const std::int64_t k = w.columns;
  if (m <= 0 || count <= 0) return;
  if (const T* plain = w.values<T>(begin, count))
    return CpuGemm<T>::gemm(false, true, m, count, k, T{1}, x, k, plain, k, beta, y, ldy);
  if constexpr (std::is_same_v<T, float>)
    if (m <= stored_direct_rows() && !batch_invariant() && stored_multiply_direct(w, begin, count, m, x, beta, y, ldy))
      return;
  const bool few = m <= few_rows_limit && !batch_invariant();
  const T* panel = few ? few_rows_panel(m, count, k, x, k) : nullptr;
  // Rows decoded at a time: for few rows of x a multiple of every tile's rows that the nearest caches hold, else as
  // many as hide the packing of x in the library's product.
  const std::int64_t wide =
      std::clamp<std::int64_t>((std::int64_t{1} << 19) / k / gemm_grain * gemm_grain, gemm_grain, 1024);
  const std::int64_t block = !few ? wide : (panel != nullptr ? 48 : 12);
  if (!few) use_one_blas_thread();
  parallel_for(count, few ? block : gemm_grain, [&](std::int64_t first, std::int64_t last) {
    thread_local std::vector<T> scratch;
    for (std::int64_t r = first; r < last; r += block) {
      const std::int64_t rows = std::min(block, last - r);
      if (scratch.size() < static_cast<std::size_t>(rows * k)) scratch.resize(static_cast<std::size_t>(rows * k));
      decode_stored_rows(w, begin + r, rows, scratch.data());
      if (few) few_rows_gemm(m, rows, k, T{1}, x, k, panel, static_cast<const T*>(scratch.data()), k, beta, y + r, ldy);
      else CpuGemm<T>::gemm_serial(false, true, m, rows, k, T{1}, x, k, scratch.data(), k, beta, y + r, ldy);
    }
  });
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
