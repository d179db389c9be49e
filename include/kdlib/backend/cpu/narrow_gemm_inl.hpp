// SPDX-License-Identifier: Apache-2.0
// Products that oneDNN multiplies in bf16 (AMX or AVX512-BF16), by tiles whose shapes are few: oneDNN compiles code for
// every shape, and the number of a batch's tokens is another one in each step. Factors that are floats (gradients of
// logits) are rounded to bf16 a tile at a time.
#ifndef KDLIB_BACKEND_CPU_NARROW_GEMM_INL_HPP
#define KDLIB_BACKEND_CPU_NARROW_GEMM_INL_HPP

#include <algorithm>
#include <cstdlib>

#include "kdlib/backend/cpu/coded_inl.hpp"
#include "kdlib/backend/cpu/isa_inl.hpp"
#include "kdlib/backend/cpu/onednn.hpp"
#include "kdlib/backend/cpu/widened.hpp"
#include "kdlib/backend/cpu/widened_rows_inl.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// What multiplies bf16 now: nothing below the level avx512, where the program is built without oneDNN, or where the
/// float code is faster (onednn_pays).
inline NarrowUnit narrow_unit() {
#if defined(KDLIB_WITH_ONEDNN) && defined(__x86_64__)
  static const NarrowUnit unit = onednn_pays(onednn_unit(), __builtin_cpu_is("amd"), std::getenv("KDLIB_BF16_PRODUCTS"))
                                     ? onednn_unit()
                                     : NarrowUnit::none;
  return cpu_level() == CpuLevel::avx512 ? unit : NarrowUnit::none;
#else
  return NarrowUnit::none;
#endif
}

#if defined(KDLIB_WITH_ONEDNN)
constexpr std::int64_t narrow_work = 1 << 18;      // m n k below which the float code is faster than a call
constexpr std::int64_t narrow_few = 8;             // rows of x that meet a weight faster without a call
constexpr std::int64_t narrow_tokens = 256;        // tokens of a tile
constexpr std::int64_t narrow_whole = 64;          // tokens below which a tile is filled up with zeros
constexpr std::int64_t narrow_terms = 1024;        // terms of a tile whose factor is rounded, or is of tokens
constexpr std::int64_t narrow_wide_rows = 2048;    // rows of a transposed factor that is rounded
constexpr std::int64_t narrow_wide_columns = 512;  // columns of a second factor that is rounded
constexpr std::int64_t amx_terms = 32;             // terms that AMX multiplies at once

/// Tokens of the next tile where `rest` are left: a power of two up to `most`, or what is left below the smallest.
inline std::int64_t narrow_tile(std::int64_t rest, std::int64_t most) {
  while (most > rest && most > narrow_whole) most /= 2;
  return std::min(most, rest);
}
/// With the zeros behind them.
inline std::int64_t narrow_filled(std::int64_t tile) { return tile < narrow_whole ? (tile + 15) / 16 * 16 : tile; }

/// A tile in bf16: the array itself, or a copy in scratch of this thread, which `Use` names.
struct NarrowTile {
  const bf16* data = nullptr;
  std::int64_t ld = 0;

  /// rows x columns values at x, with zeros behind them up to filled_rows x filled_columns.
  template <int Use>
  void take(const FloatOr<const float, const bf16>& x, std::int64_t ldx, std::int64_t rows, std::int64_t columns,
            std::int64_t filled_rows, std::int64_t filled_columns) {
    data = x.narrow, ld = ldx;
    if (data != nullptr && rows == filled_rows && columns == filled_columns) return;
    bf16* to = coded_scratch<Use, bf16>(filled_rows * filled_columns);
    data = to, ld = filled_columns;
    for (std::int64_t r = 0; r < rows; ++r, to += ld) {
      if (x.narrow != nullptr) narrow_values(columns, x.narrow + r * ldx, to);
      else narrow_values(columns, x.wide + r * ldx, to);
      std::fill(to + columns, to + ld, bf16{});
    }
    std::fill(to, to + (filled_rows - rows) * ld, bf16{});
  }
};

/// One product on the calling thread. Without transposition A has a row a token, transposed (the gradient of a weight)
/// a token is a term: tokens go in tiles, the other extents are a model's and stay whole unless a factor is rounded.
struct NarrowGemm {
  using Input = FloatOr<const float, const bf16>;
  using Output = FloatOr<float, bf16>;
  bool ta, tb;
  std::int64_t m, n, k;
  float alpha;
  Input a;
  std::int64_t lda;
  Input b;
  std::int64_t ldb;
  float beta;
  Output c;
  std::int64_t ldc;

  void run() const {
    const std::int64_t width = b.wide != nullptr ? narrow_wide_columns : n;
    for (std::int64_t i = 0, rows; i < m; i += rows) {
      rows = !ta ? narrow_tile(m - i, narrow_tokens) : a.wide != nullptr ? std::min(narrow_wide_rows, m - i) : m;
      for (std::int64_t j = 0; j < n; j += width) tile(i, rows, j, std::min(width, n - j));
    }
  }

 private:
  std::int64_t terms_at(std::int64_t p) const {
    if (ta) return narrow_tile(k - p, narrow_terms);
    return a.wide != nullptr || b.wide != nullptr ? std::min(narrow_terms, k - p) : k;
  }
  std::int64_t filled_terms(std::int64_t terms) const {
    if (ta) return narrow_filled(terms);
    return terms < amx_terms && narrow_unit() == NarrowUnit::amx ? amx_terms : terms;
  }

  /// C[i, j], rows x columns: in place, or by sums in scratch where there are zeros behind its rows, or where bf16
  /// would be rounded after each of several tiles of terms.
  void tile(std::int64_t i, std::int64_t rows, std::int64_t j, std::int64_t columns) const {
    const std::int64_t filled = ta ? rows : narrow_filled(rows);
    const Output target = c + (i * ldc + j);
    const bool direct = filled == rows && (c.wide != nullptr || terms_at(0) == k);
    float* sums = direct ? nullptr : coded_scratch<4>(filled * columns);
    if (!direct) std::fill(sums + (beta == 0 ? 0 : rows) * columns, sums + filled * columns, 0.0f);
    if (!direct && beta != 0) load(rows, columns, target, sums);
    for (std::int64_t p = 0, terms; p < k; p += terms) {
      terms = terms_at(p);
      const std::int64_t filled_k = filled_terms(terms);
      NarrowTile at, bt;
      if (ta) at.take<2>(a + (p * lda + i), lda, terms, rows, filled_k, rows);
      else at.take<2>(a + (i * lda + p), lda, rows, terms, filled, filled_k);
      if (tb) bt.take<3>(b + (j * ldb + p), ldb, columns, terms, columns, filled_k);
      else bt.take<3>(b + (p * ldb + j), ldb, terms, columns, filled_k, columns);
      const bool wide = !direct || c.wide != nullptr;
      void* to = !direct ? sums : c.wide != nullptr ? static_cast<void*>(target.wide) : target.narrow;
      onednn_product({ta, tb, filled, columns, filled_k, alpha, at.data, at.ld, bt.data, bt.ld, p == 0 ? beta : 1.0f,
                      wide, to, direct ? ldc : columns});
    }
    if (!direct) store(rows, columns, sums, target);
  }

  void load(std::int64_t rows, std::int64_t columns, const Output& from, float* sums) const {
    if (from.wide != nullptr) widen_rows(rows, columns, from.wide, ldc, sums, columns);
    else widen_rows(rows, columns, from.narrow, ldc, sums, columns);
  }
  void store(std::int64_t rows, std::int64_t columns, const float* sums, const Output& to) const {
    if (to.wide != nullptr) narrow_rows(rows, columns, sums, columns, to.wide, ldc);
    else narrow_rows(rows, columns, sums, columns, to.narrow, ldc);
  }
};
#endif

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
