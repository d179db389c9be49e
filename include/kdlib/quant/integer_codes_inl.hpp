// SPDX-License-Identifier: Apache-2.0
// Integer codes of one group by the rules of coded_data.hpp.
#ifndef KDLIB_QUANT_INTEGER_CODES_INL_HPP
#define KDLIB_QUANT_INTEGER_CODES_INL_HPP

#include <cmath>
#include <cstdint>
#include <limits>

#include "kdlib/quant/coded_data.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

struct GroupFactors {
  float scale = 0, zero = 0;
};

/// To nearest, ties to even, for |x| < 2^22 (the mode must be the default): an addition, where std::nearbyint may be a
/// call.
inline float round_even(float x) { return (x + 12582912.0f) - 12582912.0f; }
inline float clamp_code(float q, float lowest, float highest) {
  return q < lowest ? lowest : (q > highest ? highest : q);
}

/// n = 2^(bits - 1).
inline GroupFactors encode_symmetric(const float* w, std::int64_t count, float n, std::int8_t* q) {
  float largest = 0;
  for (std::int64_t i = 0; i < count; ++i) largest = std::fabs(w[i]) > largest ? std::fabs(w[i]) : largest;
  const float scale = std::fmax(largest / (n - 0.5f), std::numeric_limits<float>::min()), inverse = 1.0f / scale;
  for (std::int64_t i = 0; i < count; ++i)
    q[i] = static_cast<std::int8_t>(clamp_code(round_even(w[i] * inverse), -n, n - 1));
  return {scale, 0.0f};
}

inline GroupFactors encode_affine(const float* w, std::int64_t count, float n, std::int8_t* q) {
  float low = w[0], high = w[0];
  for (std::int64_t i = 1; i < count; ++i) low = w[i] < low ? w[i] : low, high = w[i] > high ? w[i] : high;
  const float scale = std::fmax(high - low, 1e-6f) / (2 * n - 1),
              middle = n * scale;  // a power of two: no rounding to fuse
  for (std::int64_t i = 0; i < count; ++i)
    q[i] = static_cast<std::int8_t>(clamp_code(round_even((w[i] - low) / scale), 0.0f, 2 * n - 1) - n);
  return {scale, low + middle};
}

inline GroupFactors encode_asymmetric(const float* w, std::int64_t count, float n, std::int8_t* q) {
  float low = 0, high = 0;
  for (std::int64_t i = 0; i < count; ++i) low = w[i] < low ? w[i] : low, high = w[i] > high ? w[i] : high;
  const float scale = std::fmax((high - low) / (2 * n - 1), std::numeric_limits<float>::min()), inverse = 1.0f / scale;
  const float zero = clamp_code(-n - round_even(low / scale), -n, n - 1);
  for (std::int64_t i = 0; i < count; ++i)
    q[i] = static_cast<std::int8_t>(clamp_code(round_even(w[i] * inverse) + zero, -n, n - 1));
  return {scale, zero};
}

inline GroupFactors encode_integers(const float* w, std::int64_t count, int bits, Int4Rule rule, std::int8_t* q) {
  const float n = static_cast<float>(1 << (bits - 1));
  switch (rule) {
    case Int4Rule::symmetric:
      return encode_symmetric(w, count, n, q);
    case Int4Rule::affine:
      return encode_affine(w, count, n, q);
    default:
      return encode_asymmetric(w, count, n, q);
  }
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
