// SPDX-License-Identifier: Apache-2.0
// Products with weights kept as codes.
#ifndef KDLIB_BACKEND_CPU_CODED_INL_HPP
#define KDLIB_BACKEND_CPU_CODED_INL_HPP

#include <vector>

#include "kdlib/backend/cpu/gemm_inl.hpp"
#include "kdlib/backend/cpu/isa_inl.hpp"
#include "kdlib/core/parallel.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

template <class T>
void CpuPacked<T>::coded_decode(const CodedRanges& weight, std::int64_t begin, std::int64_t count, T* out) {
  const std::int64_t grain = 1 + (1 << 14) / (weight.columns + 1);
  parallel_for(count, grain, [&](std::int64_t first, std::int64_t last) {
    KDLIB_VECTOR_CALL(decode_coded, weight, begin + first, last - first, out + first * weight.columns);
  });
}

/// At least n values of scratch that this thread keeps, on a cache line. `Use` tells buffers apart that live at the
/// same time.
template <int Use, class X = float>
X* coded_scratch(std::int64_t n) {
  constexpr std::int64_t line = 64 / sizeof(X);
  thread_local std::vector<X> scratch;
  if (static_cast<std::size_t>(n + line) > scratch.size()) scratch.resize(static_cast<std::size_t>(n + line));
  return scratch.data() + (line - reinterpret_cast<std::uintptr_t>(scratch.data()) / sizeof(X) % line) % line;
}

/// The product without decoded rows; false where the instruction set, the groups or m do not allow it.
inline bool multiply_codes(const CodedRanges& weight, std::int64_t m, const float* x, float beta, float* y) {
  CodedPlan plan;
  KDLIB_VECTOR_CALL(plan_coded, weight, m, plan);
  if (plan.rows == 0) return false;
  float* spread = coded_scratch<0>(plan.elements + plan.sums);
  float* sums = spread + plan.elements;
  KDLIB_VECTOR_CALL(spread_rows, weight, plan, m, x, spread, sums);
  parallel_for(weight.rows, 16, [&](std::int64_t begin, std::int64_t end) {
    KDLIB_VECTOR_CALL(multiply_coded, weight, begin, end, m, spread, sums, coded_scratch<1>(plan.scratch), beta, y);
  });
  return true;
}

template <class T>
void CpuPacked<T>::coded_multiply_few(const CodedRanges& weight, std::int64_t m, const T* x, T beta, T* y) {
  const bool alone = batch_invariant();
  if constexpr (std::is_same_v<T, float>)
    if (!alone && multiply_codes(weight, m, x, beta, y)) return;
  const std::int64_t k = weight.columns;
  const T* panel = alone ? nullptr : few_rows_panel(m, weight.rows, k, x, k);
  const std::int64_t block =
      panel != nullptr ? 48
                       : 12;  // rows decoded at a time: a multiple of every tile's rows, small enough for the cache
  parallel_for(weight.rows, block, [&](std::int64_t begin, std::int64_t end) {
    thread_local std::vector<T> scratch;
    scratch.resize(static_cast<std::size_t>(block * k));
    for (std::int64_t r = begin; r < end; r += block) {
      const std::int64_t rows = end - r < block ? end - r : block;
      KDLIB_VECTOR_CALL(decode_coded, weight, r, rows, scratch.data());
      const T* decoded = scratch.data();
      if (alone) CpuGemm<T>::gemm_serial(false, true, m, rows, k, T{1}, x, k, decoded, k, beta, y + r, weight.rows);
      else few_rows_gemm(m, rows, k, T{1}, x, k, panel, decoded, k, beta, y + r, weight.rows);
    }
  });
}

/// Calls body(row, column, code as a signed integer, level) for every element of rows [begin, begin + count), rows in
/// parallel.
template <class F>
void each_code(const CodedRanges& w, std::int64_t begin, std::int64_t count, F&& body) {
  parallel_for(count, 1 + 4096 / (w.columns + 1), [&](std::int64_t first, std::int64_t last) {
    for (std::int64_t r = begin + first; r < begin + last; ++r) {
      const std::uint8_t* row = w.codes + r * w.row_bytes();
      for (std::int64_t c = 0; c < w.columns; ++c) {
        const int code = static_cast<int>(w.bits == 8   ? row[c]
                                          : w.bits == 4 ? vector_portable::code_at<4>(row, c)
                                                        : vector_portable::code_at<3>(row, c));
        const int half = 1 << (w.bits - 1), integer = code < half ? code : code - 2 * half;
        body(r, c, integer, w.levels == nullptr ? static_cast<float>(integer) : w.levels[code]);
      }
    }
  });
}

template <class T>
void CpuPacked<T>::coded_factor_gradient(const CodedRanges& weight, std::int64_t begin, std::int64_t count,
                                         const T* gradient, T* scale_gradient, T* zero_gradient) {
  require<ConfigError>(!weight.crossing, "[coded_factor_gradient] groups cross row ends");
  const std::int64_t groups = weight.row_groups();
  each_code(weight, begin, count, [&](std::int64_t r, std::int64_t c, int, float level) {
    const std::int64_t at = r * groups + c / weight.group;
    const T g = gradient[(r - begin) * weight.columns + c];
    if (scale_gradient != nullptr)
      scale_gradient[at] += g * static_cast<T>(weight.shifted ? level - weight.zero[at] : level);
    if (zero_gradient != nullptr) zero_gradient[at] += g;
  });
}

template <class T>
void CpuPacked<T>::coded_clip_gradient(const CodedRanges& weight, std::int64_t begin, std::int64_t count, T* gradient) {
  const int half = 1 << (weight.bits - 1);
  each_code(weight, begin, count, [&](std::int64_t r, std::int64_t c, int code, float) {
    if (code == -half || code == half - 1) gradient[(r - begin) * weight.columns + c] = T{0};
  });
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
