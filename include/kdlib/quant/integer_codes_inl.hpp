// SPDX-License-Identifier: Apache-2.0
// Integer codes of one group by the rules of coded_data.hpp.
#ifndef KDLIB_QUANT_INTEGER_CODES_INL_HPP
#define KDLIB_QUANT_INTEGER_CODES_INL_HPP

#include <cmath>
#include <cstdint>
#include <limits>

#include "kdlib/quant/code_lanes_inl.hpp"
#include "kdlib/quant/coded_data.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

struct GroupFactors {
  float scale = 0, zero = 0;
};

KDLIB_FUNC float clamp_code(float q, float lowest, float highest) {
  return q < lowest ? lowest : (q > highest ? highest : q);
}

/// n = 2^(bits - 1).
KDLIB_FUNC GroupFactors encode_symmetric(const float* w, std::int64_t count, float n, std::int8_t* q) {
  const float largest = value_range(w, count).magnitude();
  const float scale = std::fmax(largest / (n - 0.5f), std::numeric_limits<float>::min()), inverse = 1.0f / scale;
  clamped_codes(
      w, count, -n, n - 1, [=](auto x) { return round_even(x * inverse); }, q);
  return {scale, 0.0f};
}

KDLIB_FUNC GroupFactors encode_affine(const float* w, std::int64_t count, float n, std::int8_t* q) {
  const auto [low, high] = value_range(w, count);
  const float scale = std::fmax(high - low, 1e-6f) / (2 * n - 1);
  clamped_codes(
      w, count, -n, n - 1, [=, least = low](auto x) { return round_even((x - least) / scale) - n; }, q);
  return {scale, low + rounded(n * scale)};
}

KDLIB_FUNC GroupFactors encode_asymmetric(const float* w, std::int64_t count, float n, std::int8_t* q) {
  const ValueRange range = value_range(w, count);
  const float low = range.low < 0 ? range.low : 0.0f, high = range.high > 0 ? range.high : 0.0f;
  const float scale = std::fmax((high - low) / (2 * n - 1), std::numeric_limits<float>::min()), inverse = 1.0f / scale;
  const float zero = clamp_code(-n - round_even(low / scale), -n, n - 1);
  clamped_codes(
      w, count, -n, n - 1, [=](auto x) { return round_even(x * inverse) + zero; }, q);
  return {scale, zero};
}

KDLIB_FUNC GroupFactors encode_integers(const float* w, std::int64_t count, int bits, Int4Rule rule, std::int8_t* q) {
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
