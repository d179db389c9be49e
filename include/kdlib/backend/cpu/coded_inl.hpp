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

/// At least n floats of scratch that this thread keeps, on a cache line. `Use` tells buffers apart that live at the same time.
template <int Use>
float* coded_scratch(std::int64_t n) {
  thread_local std::vector<float> scratch;
  if (static_cast<std::size_t>(n + 16) > scratch.size()) scratch.resize(static_cast<std::size_t>(n + 16));
  return scratch.data() + (16 - reinterpret_cast<std::uintptr_t>(scratch.data()) / sizeof(float) % 16) % 16;
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
  if constexpr (std::is_same_v<T, float>)
    if (multiply_codes(weight, m, x, beta, y)) return;
  const std::int64_t k = weight.columns;
  const T* panel = few_rows_panel(m, weight.rows, k, x, k);
  const std::int64_t block = panel != nullptr ? 48 : 12;  // rows decoded at a time: a multiple of every tile's rows, small enough for the cache
  parallel_for(weight.rows, block, [&](std::int64_t begin, std::int64_t end) {
    thread_local std::vector<T> scratch;
    scratch.resize(static_cast<std::size_t>(block * k));
    for (std::int64_t r = begin; r < end; r += block) {
      const std::int64_t rows = end - r < block ? end - r : block;
      KDLIB_VECTOR_CALL(decode_coded, weight, r, rows, scratch.data());
      few_rows_gemm(m, rows, k, T{1}, x, k, panel, static_cast<const T*>(scratch.data()), k, beta, y + r, weight.rows);
    }
  });
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
