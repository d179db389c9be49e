// SPDX-License-Identifier: Apache-2.0
// Frequencies and scales of rope_table.hpp.
#ifndef KDLIB_NN_ROPE_FREQUENCIES_INL_HPP
#define KDLIB_NN_ROPE_FREQUENCIES_INL_HPP

#include <cmath>
#include <vector>

#include "kdlib/core/error.hpp"
#include "kdlib/core/math.hpp"
#include "kdlib/nn/rope_table.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {

/// Llama 3.1: long wavelengths are slowed by `factor`, short ones kept, those between blended.
KDLIB_FUNC double llama3_frequency(const RopeSettings& s, double f) {
  const double wavelength = two_pi / f, lo = s.original_length;
  if (wavelength < lo / s.high_frequency_factor) return f;
  if (wavelength > lo / s.low_frequency_factor) return f / s.factor;
  const double blend = (lo / wavelength - s.low_frequency_factor) / (s.high_frequency_factor - s.low_frequency_factor);
  return (1 - blend) * f / s.factor + rounded(blend * f);
}

/// YaRN (Peng et al., 2023): a linear ramp over the pair index between the bounds of beta_fast and beta_slow.
KDLIB_FUNC void yarn_frequencies(const RopeSettings& s, double head_size, std::vector<double>& f) {
  const auto bound = [&](double rotations) {
    return head_size * std::log(s.original_length / (rotations * two_pi)) / (2 * std::log(s.theta));
  };
  double low = bound(s.beta_fast), high = bound(s.beta_slow);
  if (s.truncate) low = std::floor(low), high = std::ceil(high);
  low = low < 0 ? 0 : low;
  high = high > head_size - 1 ? head_size - 1 : high;
  if (low == high) high += 0.001;
  for (std::size_t j = 0; j < f.size(); ++j) {
    double ramp = (static_cast<double>(j) - low) / (high - low);
    ramp = ramp < 0 ? 0 : (ramp > 1 ? 1 : ramp);
    f[j] = rounded(f[j] / s.factor * ramp) + rounded(f[j] * (1 - ramp));
  }
}

}  // namespace detail

KDLIB_FUNC std::vector<double> rope_frequencies(const RopeSettings& s, std::int64_t head_size) {
  const auto half = static_cast<std::size_t>(head_size / 2);
  std::vector<double> f(half);
  for (std::size_t j = 0; j < half; ++j)
    f[j] = std::pow(s.theta, -2.0 * static_cast<double>(j) / static_cast<double>(head_size));
  if (s.kind == RopeScalingKind::linear)
    for (double& x : f) x /= s.factor;
  if (s.kind == RopeScalingKind::llama3)
    for (double& x : f) x = detail::llama3_frequency(s, x);
  if (s.kind == RopeScalingKind::yarn) detail::yarn_frequencies(s, static_cast<double>(head_size), f);
  require<ShapeError>(s.divisors.empty() || s.divisors.size() == half, "[rope] ", s.divisors.size(),
                      " frequency divisors for ", half, " pairs");
  for (std::size_t j = 0; j < s.divisors.size(); ++j) f[j] /= s.divisors[j];
  return f;
}

KDLIB_FUNC double rope_table_scale(const RopeSettings& s) {
  if (s.kind != RopeScalingKind::yarn) return 1;
  if (s.attention_factor > 0) return s.attention_factor;
  const auto m = [&](double scale) { return s.factor <= 1 ? 1.0 : rounded(0.1 * scale * std::log(s.factor)) + 1; };
  if (s.mscale > 0 && s.mscale_all > 0) return m(s.mscale) / m(s.mscale_all);
  return m(1);
}

KDLIB_NAMESPACE_END

#endif
