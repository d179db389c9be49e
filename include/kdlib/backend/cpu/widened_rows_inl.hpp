// SPDX-License-Identifier: Apache-2.0
// Values and rows between float and bf16.
#ifndef KDLIB_BACKEND_CPU_WIDENED_ROWS_INL_HPP
#define KDLIB_BACKEND_CPU_WIDENED_ROWS_INL_HPP

#include <algorithm>
#include <cstdint>

#include "kdlib/backend/cpu/isa_inl.hpp"
#include "kdlib/core/dtype.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

inline void widen_values(std::int64_t n, const bf16* x, float* y) { KDLIB_VECTOR_CALL(widen, n, x, y); }
inline void widen_values(std::int64_t n, const float* x, float* y) { std::copy(x, x + n, y); }
inline void narrow_values(std::int64_t n, const float* x, bf16* y) { KDLIB_VECTOR_CALL(narrow, n, x, y); }
inline void narrow_values(std::int64_t n, const float* x, float* y) { std::copy(x, x + n, y); }
inline void narrow_values(std::int64_t n, const bf16* x, bf16* y) { std::copy(x, x + n, y); }

/// Rows of `columns` values between an array with leading dimension ld and one with another.
template <class T>
void widen_rows(std::int64_t rows, std::int64_t columns, const T* x, std::int64_t ldx, float* y, std::int64_t ldy) {
  for (std::int64_t r = 0; r < rows; ++r) widen_values(columns, x + r * ldx, y + r * ldy);
}
template <class T>
void narrow_rows(std::int64_t rows, std::int64_t columns, const float* x, std::int64_t ldx, T* y, std::int64_t ldy) {
  for (std::int64_t r = 0; r < rows; ++r) narrow_values(columns, x + r * ldx, y + r * ldy);
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
