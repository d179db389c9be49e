// SPDX-License-Identifier: Apache-2.0
// Few rows of x (the next tokens of a batch) against a weight, both in bf16, by vdpbf16ps: the lanes of a vector are 16
// rows of x, so each pair of the weight is read once, where it lies, and goes to all of them.
#ifndef KDLIB_BACKEND_CPU_NARROW_ROWS_INL_HPP
#define KDLIB_BACKEND_CPU_NARROW_ROWS_INL_HPP

#include <algorithm>
#include <cstdint>
#include <cstring>

#include "kdlib/backend/cpu/coded_inl.hpp"
#include "kdlib/backend/cpu/isa_inl.hpp"
#include "kdlib/backend/cpu/widened.hpp"
#include "kdlib/backend/cpu/widened_rows_inl.hpp"
#include "kdlib/core/parallel.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

#if defined(__x86_64__)
#define KDLIB_NARROW_TARGET __attribute__((target("avx512bf16,avx512f,avx512bw,avx512dq,avx512vl,avx2,fma")))

/// AVX512-BF16 in the CPU and not switched off by the level; clang 14's __builtin_cpu_supports does not know the name.
inline bool multiplies_narrow_rows() {
  static const bool has = [] {
    unsigned a = 0, b = 0, c = 0, d = 0;
    return __get_cpuid_count(7, 1, &a, &b, &c, &d) != 0 && (a & (1u << 5)) != 0;
  }();
  return has && cpu_level() == CpuLevel::avx512;
}

constexpr std::int64_t narrow_lanes = 16;      // rows of x that meet the weight together
constexpr std::int64_t narrow_rows_first = 9;  // fewer rows are faster as floats: the lanes of the others are empty
constexpr int narrow_rows_tile = 16;           // rows of the weight whose sums stay in registers

/// Pairs of neighbouring terms: out[group][pair][lane], for groups of 16 rows. An odd term and empty lanes meet zeros.
inline void pair_rows(std::int64_t m, std::int64_t k, const bf16* x, std::int64_t ldx, std::uint32_t* out) {
  const std::int64_t pairs = (k + 1) / 2;
  for (std::int64_t first = 0; first < m; first += narrow_lanes, out += pairs * narrow_lanes) {
    const std::int64_t rows = std::min(narrow_lanes, m - first);
    for (std::int64_t r = 0; r < narrow_lanes; ++r)
      for (std::int64_t p = 0; p < pairs; ++p) {
        std::uint32_t pair = 0;
        if (r < rows) {
          const bf16* at = x + (first + r) * ldx + 2 * p;
          pair = at[0].bits | (2 * p + 1 < k ? static_cast<std::uint32_t>(at[1].bits) << 16 : 0u);
        }
        out[p * narrow_lanes + r] = pair;
      }
  }
}

template <int N>
KDLIB_NARROW_TARGET __attribute__((always_inline)) inline void narrow_step(__m512* sums, const std::uint32_t* x,
                                                                           const bf16* w, std::int64_t k,
                                                                           std::size_t bytes) {
  const auto pairs = reinterpret_cast<__m512bh>(_mm512_loadu_si512(x));
#pragma GCC unroll 16
  for (int j = 0; j < N; ++j) {
    std::uint32_t pair = 0;
    std::memcpy(&pair, w + j * k, bytes);
    sums[j] = _mm512_dpbf16_ps(sums[j], pairs, reinterpret_cast<__m512bh>(_mm512_set1_epi32(static_cast<int>(pair))));
  }
}

/// out[N][16] = N rows of w (at k) times 16 rows of x. Meanwhile the rows behind them are asked for.
template <int N>
KDLIB_NARROW_TARGET inline void narrow_tile_sums(std::int64_t k, const std::uint32_t* x, const bf16* w, bool ahead,
                                                 float* out) {
  __m512 sums[N];
#pragma GCC unroll 16
  for (int j = 0; j < N; ++j) sums[j] = _mm512_setzero_ps();
  std::int64_t i = 0;
  for (; i + 2 <= k; i += 2, x += narrow_lanes) {
    if (ahead) _mm_prefetch(reinterpret_cast<const char*>(w + N * (k + i)), _MM_HINT_T0);
    narrow_step<N>(sums, x, w + i, k, sizeof(std::uint32_t));
  }
  if (i < k) narrow_step<N>(sums, x, w + i, k, sizeof(bf16));
#pragma GCC unroll 16
  for (int j = 0; j < N; ++j) _mm512_storeu_ps(out + j * narrow_lanes, sums[j]);
}

/// y[m, n] (leading dimension ldy) = alpha * x w[n, k]^T + beta * y on the calling thread; `pairs` are pair_rows of x.
template <class Y>
void narrow_few_rows(std::int64_t m, std::int64_t n, std::int64_t k, float alpha, const std::uint32_t* pairs,
                     const bf16* w, float beta, Y* y, std::int64_t ldy) {
  alignas(64) float sums[narrow_rows_tile * narrow_lanes];
  const auto put = [&](std::int64_t row, std::int64_t rows, std::int64_t column, std::int64_t columns) {
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int64_t c = 0; c < columns; ++c) {
        Y& to = y[(row + r) * ldy + column + c];
        const float sum = alpha * sums[c * narrow_lanes + r];
        to = Y(beta == 0 ? sum : sum + beta * static_cast<float>(to));
      }
  };
  for (std::int64_t c = 0, columns; c < n; c += columns) {
    columns = n - c >= narrow_rows_tile ? narrow_rows_tile : 1;
    const bool ahead = c + 2 * narrow_rows_tile <= n;
    for (std::int64_t row = 0; row < m; row += narrow_lanes) {
      const std::uint32_t* x = pairs + row * ((k + 1) / 2);
      if (columns == 1) narrow_tile_sums<1>(k, x, w + c * k, false, sums);
      else narrow_tile_sums<narrow_rows_tile>(k, x, w + c * k, ahead && row == 0, sums);
      put(row, std::min(narrow_lanes, m - row), c, columns);
    }
  }
}

/// Whether narrow_rows_gemm does x[m, k] w[n, k]^T, w in order and both in bf16: for 9 to `most` rows, or for any.
inline bool takes_narrow_rows(bool transpose_x, bool transpose_w, std::int64_t m, std::int64_t most) {
  if (transpose_x || !transpose_w || !multiplies_narrow_rows()) return false;
  return batch_invariant() || (m >= narrow_rows_first && m <= most);  // no row changes another's sums
}
/// y[m, n] = alpha * x w^T + beta * y, on all threads or on the calling one.
inline void narrow_rows_gemm(bool serial, std::int64_t m, std::int64_t n, std::int64_t k, float alpha, const bf16* x,
                             std::int64_t ldx, const bf16* w, float beta, FloatOr<float, bf16> y, std::int64_t ldy) {
  const std::int64_t groups = (m + narrow_lanes - 1) / narrow_lanes;
  auto* pairs = coded_scratch<9, std::uint32_t>(groups * narrow_lanes * ((k + 1) / 2));
  pair_rows(m, k, x, ldx, pairs);
  const auto part = [&](std::int64_t begin, std::int64_t end) {
    const bf16* rows = w + begin * k;
    if (y.wide != nullptr) narrow_few_rows(m, end - begin, k, alpha, pairs, rows, beta, y.wide + begin, ldy);
    else narrow_few_rows(m, end - begin, k, alpha, pairs, rows, beta, y.narrow + begin, ldy);
  };
  if (serial) return part(0, n);
  parallel_for(n, 4 * narrow_rows_tile, part);
}
#undef KDLIB_NARROW_TARGET
#endif

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
