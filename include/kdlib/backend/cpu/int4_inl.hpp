// SPDX-License-Identifier: Apache-2.0
// Products with weights in four bits.
#ifndef KDLIB_BACKEND_CPU_INT4_INL_HPP
#define KDLIB_BACKEND_CPU_INT4_INL_HPP

#include <vector>

#include "kdlib/backend/cpu/gemm_inl.hpp"
#include "kdlib/backend/cpu/isa_inl.hpp"
#include "kdlib/core/parallel.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

template <class T>
void CpuPacked<T>::int4_decode(const Int4Ranges& weight, std::int64_t begin, std::int64_t count, T* out) {
  const std::int64_t grain = 1 + (1 << 14) / (weight.columns + 1);
  parallel_for(count, grain, [&](std::int64_t first, std::int64_t last) {
    KDLIB_VECTOR_CALL(decode_int4, weight, begin + first, last - first, out + first * weight.columns);
  });
}

template <class T>
void CpuPacked<T>::int4_multiply_few(const Int4Ranges& weight, std::int64_t m, const T* x, T beta, T* y) {
  const std::int64_t k = weight.columns;
  const T* panel = few_rows_panel(m, weight.rows, k, x, k);
  const std::int64_t block = panel != nullptr ? 48 : 12;  // rows decoded at a time: a multiple of every tile's rows, small enough for the cache
  parallel_for(weight.rows, block, [&](std::int64_t begin, std::int64_t end) {
    thread_local std::vector<T> scratch;
    scratch.resize(static_cast<std::size_t>(block * k));
    for (std::int64_t r = begin; r < end; r += block) {
      const std::int64_t rows = end - r < block ? end - r : block;
      KDLIB_VECTOR_CALL(decode_int4, weight, r, rows, scratch.data());
      few_rows_gemm(m, rows, k, T{1}, x, k, panel, static_cast<const T*>(scratch.data()), k, beta, y + r, weight.rows);
    }
  });
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
