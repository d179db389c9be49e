// SPDX-License-Identifier: Apache-2.0
// Bodies of four_bit_floats.hpp.
#ifndef KDLIB_QUANT_FOUR_BIT_FLOATS_INL_HPP
#define KDLIB_QUANT_FOUR_BIT_FLOATS_INL_HPP

#include <algorithm>
#include <bit>
#include <cmath>

#include "kdlib/quant/four_bit_floats.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_FUNC const std::array<float, 16>& nf4_levels() {
  static constexpr std::array<float, 16> levels = {-1.0f,
                                                   -0.6961928009986877f,
                                                   -0.5250730514526367f,
                                                   -0.39491748809814453f,
                                                   -0.28444138169288635f,
                                                   -0.18477343022823334f,
                                                   -0.09105003625154495f,
                                                   0.0f,
                                                   0.07958029955625534f,
                                                   0.16093020141124725f,
                                                   0.24611230194568634f,
                                                   0.33791524171829224f,
                                                   0.44070982933044434f,
                                                   0.5626170039176941f,
                                                   0.7229568362236023f,
                                                   1.0f};
  return levels;
}
KDLIB_FUNC const std::array<float, 16>& fp4_levels() {
  static constexpr std::array<float, 16> levels = {
      0.0f,  0.0625f / 12,  8.0f / 12,  1.0f,  4.0f / 12,  0.5f,  2.0f / 12,  0.25f,
      -0.0f, -0.0625f / 12, -8.0f / 12, -1.0f, -4.0f / 12, -0.5f, -2.0f / 12, -0.25f};
  return levels;
}
KDLIB_FUNC const std::array<float, 16>& e2m1_levels() {
  static constexpr std::array<float, 16> levels = {0.0f,  0.5f,  1.0f,  1.5f,  2.0f,  3.0f,  4.0f,  6.0f,
                                                   -0.0f, -0.5f, -1.0f, -1.5f, -2.0f, -3.0f, -4.0f, -6.0f};
  return levels;
}

namespace detail {

/// Codes in the order of their values and the midpoints between them.
struct SortedLevels {
  std::array<std::uint8_t, 16> code{};
  std::array<float, 15> threshold{};

  explicit SortedLevels(const std::array<float, 16>& levels) {
    for (std::uint8_t i = 0; i < 16; ++i) code[i] = i;
    std::stable_sort(code.begin(), code.end(),
                     [&](std::uint8_t a, std::uint8_t b) { return levels[a] < levels[b]; });  // code 0 before code 8
    for (std::size_t i = 0; i < 15; ++i) threshold[i] = (levels[code[i]] + levels[code[i + 1]]) / 2;
  }
  std::uint8_t operator()(float x) const {
    std::size_t rank = 0;  // thresholds below x
    for (std::size_t step = 8; step > 0; step /= 2) rank += x > threshold[rank + step - 1] ? step : 0;
    return code[rank];
  }
};

KDLIB_FUNC float encode_table_block(const SortedLevels& table, const float* w, std::int64_t count, bool last,
                                    std::uint8_t* codes) {
  float largest = 0;
  for (std::int64_t i = 0; i < count; ++i) largest = std::fabs(w[i]) > largest ? std::fabs(w[i]) : largest;
  const float divisor = std::fmax(largest, 1e-38f), inverse = 1.0f / divisor;
  for (std::int64_t i = 0; i < count; ++i) {
    const float x = last ? w[i] / divisor : w[i] * inverse;
    codes[i] = table(x < -1.0f ? -1.0f : (x > 1.0f ? 1.0f : x));
  }
  return last ? divisor : largest;
}

/// floor(log2 x) of a positive x; -127 for subnormals, as the exponent's bits say.
KDLIB_FUNC int stored_exponent(float x) { return static_cast<int>(std::bit_cast<std::uint32_t>(x) >> 23 & 255) - 127; }
KDLIB_FUNC bool is_power_of_two(float x) { return (std::bit_cast<std::uint32_t>(x) & 0x7FFFFF) == 0; }

KDLIB_FUNC int mx_exponent(float largest, MxScale rule) {
  switch (rule) {
    case MxScale::floor:
      return stored_exponent(largest) - 2;
    case MxScale::ceil:
      return stored_exponent(largest) + (is_power_of_two(largest) ? 0 : 1) - 2;
    case MxScale::even:
      return stored_exponent(largest) + ((std::bit_cast<std::uint32_t>(largest) & 0x7FFFFF) >= 0x600000 ? 1 : 0) - 2;
    default: {
      const float part = largest / 6.0f;
      return stored_exponent(part) + (is_power_of_two(part) ? 0 : 1);
    }
  }
}

KDLIB_FUNC std::uint8_t e2m1_code(float x) {
  const float a = std::fabs(x);
  const std::uint8_t sign = std::signbit(x) ? 8 : 0;
  if (a <= 2.5f) {  // steps of a half up to 2, of one to 4
    if (a <= 0.25f) return sign;
    if (a < 0.75f) return sign | 1;
    if (a <= 1.25f) return sign | 2;
    return a < 1.75f ? sign | 3 : sign | 4;
  }
  if (a < 3.5f) return sign | 5;
  return a <= 5.0f ? sign | 6 : sign | 7;
}

}  // namespace detail

KDLIB_FUNC float encode_nf4_block(const float* w, std::int64_t count, bool last, std::uint8_t* codes) {
  static const detail::SortedLevels table(nf4_levels());
  return detail::encode_table_block(table, w, count, last, codes);
}
KDLIB_FUNC float encode_fp4_block(const float* w, std::int64_t count, bool last, std::uint8_t* codes) {
  static const detail::SortedLevels table(fp4_levels());
  return detail::encode_table_block(table, w, count, last, codes);
}

KDLIB_FUNC const std::array<float, 256>& dynamic_map() {
  static const std::array<float, 256> map = [] {
    std::array<float, 256> values{};
    std::size_t at = 0;
    values[at++] = 0.0f;
    values[at++] = 1.0f;
    for (int i = 0; i < 7;
         ++i) {  // means of neighbours of 2^i + 1 equally spaced points on [0.1, 1], rounded as torch.linspace rounds
      const int parts = 1 << i;
      const float step = (1.0f - 0.1f) / static_cast<float>(parts), ten = static_cast<float>(std::pow(10.0, i - 6));
      const auto point = [&](int k) {
        const double from_start = static_cast<double>(0.1f) + static_cast<double>(step) * k,
                     from_end = 1.0 - static_cast<double>(step) * (parts - k);
        return static_cast<float>(2 * k < parts ? from_start : from_end);
      };
      for (int k = 0; k < parts; ++k) {
        const float mean = (point(k) + point(k + 1)) / 2;
        values[at++] = ten * mean;
        values[at++] = -ten * mean;
      }
    }
    std::sort(values.begin(), values.end());
    return values;
  }();
  return map;
}

KDLIB_FUNC NestedScales nest_scales(std::span<const float> scale) {
  NestedScales out;
  double total = 0;
  for (const float s : scale) total += static_cast<double>(s);
  out.offset = scale.empty() ? 0.0f : static_cast<float>(total / static_cast<double>(scale.size()));
  const std::array<float, 256>& map = dynamic_map();
  out.codes.resize(scale.size());
  for (std::size_t begin = 0; begin < scale.size(); begin += 256) {
    const std::size_t end = std::min(begin + 256, scale.size());
    float largest = 0;
    for (std::size_t i = begin; i < end; ++i) largest = std::fmax(largest, std::fabs(scale[i] - out.offset));
    out.block_scale.push_back(largest);
    for (std::size_t i = begin; i < end && largest > 0; ++i) {  // all equal: the codes stay 0, as bitsandbytes has them
      const float x = (scale[i] - out.offset) / largest;
      const auto above = std::lower_bound(map.begin(), map.end(), x);
      const std::size_t k = static_cast<std::size_t>(above - map.begin());
      out.codes[i] = static_cast<std::uint8_t>(k == 256 ? 255 : k > 0 && x - map[k - 1] <= map[k] - x ? k - 1 : k);
    }
  }
  return out;
}

KDLIB_FUNC std::uint8_t encode_mxfp4_block(const float* w, std::int64_t count, MxScale rule, std::uint8_t* codes) {
  float largest = 0;
  for (std::int64_t i = 0; i < count; ++i) largest = std::fabs(w[i]) > largest ? std::fabs(w[i]) : largest;
  const int e = std::clamp(largest == 0 ? -127 : detail::mx_exponent(largest, rule), -127, 127);
  const int applied = e == -127 ? -126 : e;  // 2^127 is the largest factor a float holds
  const float factor = std::ldexp(1.0f, -applied);
  for (std::int64_t i = 0; i < count; ++i) codes[i] = detail::e2m1_code(w[i] * factor);
  return static_cast<std::uint8_t>(e + 127);
}

KDLIB_NAMESPACE_END

#endif
