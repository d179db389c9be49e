// SPDX-License-Identifier: Apache-2.0
// Codes of integers, four values at a time. Written with vectors, because a product that is kept from being fused
// (rounded() of core/math.hpp) is not made a vector by the compiler.
#ifndef KDLIB_QUANT_CODE_LANES_INL_HPP
#define KDLIB_QUANT_CODE_LANES_INL_HPP

#include <cstdint>
#include <cstring>

#include "kdlib/core/math.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// To nearest, ties to even, for |x| < 2^22 (the mode must be the default): an addition, where std::nearbyint may be a
/// call. x is rounded first, so that its product is not fused with the addition.
template <class X>
KDLIB_INLINE X round_even(X x) {
  return (rounded(x) + 12582912.0f) - 12582912.0f;
}

struct ValueRange {
  float low, high;
  float magnitude() const { return std::fabs(high > -low ? high : low); }
};
/// The smallest and the largest of `count` > 0 finite values; which zero a bound is, is not said.
inline ValueRange value_range(const float* w, std::int64_t count) {
  ValueRange range{w[0], w[0]};
  Lanes4 low = w[0] - Lanes4{}, high = low;
  const std::int64_t whole = count - count % 4;
  for (std::int64_t i = 0; i < whole; i += 4) {
    Lanes4 x;
    std::memcpy(&x, w + i, sizeof x);
    low = x < low ? x : low;
    high = x > high ? x : high;
  }
  for (int k = 0; k < 4; ++k) {
    range.low = low[k] < range.low ? low[k] : range.low;
    range.high = high[k] > range.high ? high[k] : range.high;
  }
  for (std::int64_t i = whole; i < count; ++i) {
    range.low = w[i] < range.low ? w[i] : range.low;
    range.high = w[i] > range.high ? w[i] : range.high;
  }
  return range;
}

/// codes[i] = the integer part of clamp(value(w[i]), lowest, highest), i < count. `value` takes a float or Lanes4 and
/// gives the same; its last operation must not be a product.
template <class Code, class F>
void clamped_codes(const float* w, std::int64_t count, float lowest, float highest, F value, Code* codes) {
  static_assert(sizeof(Code) == 1);
  constexpr int width = 16;
  const Lanes4 low = lowest - Lanes4{}, high = highest - Lanes4{};
  const std::int64_t whole = count - count % width;
  for (std::int64_t i = 0; i < whole; i += width) {
    float clamped[width];
    for (int k = 0; k < width; k += 4) {
      Lanes4 x;
      std::memcpy(&x, w + i + k, sizeof x);
      x = value(x);
      x = x < low ? low : x;
      x = x > high ? high : x;
      std::memcpy(clamped + k, &x, sizeof x);
    }
    for (int k = 0; k < width; ++k) codes[i + k] = static_cast<Code>(static_cast<std::int32_t>(clamped[k]));
  }
  for (std::int64_t i = whole; i < count; ++i) {
    const float x = value(w[i]);
    codes[i] = static_cast<Code>(x < lowest ? lowest : (x > highest ? highest : x));
  }
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
