// SPDX-License-Identifier: Apache-2.0
// Bodies of confidence.hpp.
#ifndef KDLIB_DATA_CONFIDENCE_INL_HPP
#define KDLIB_DATA_CONFIDENCE_INL_HPP

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>

#include "kdlib/core/error.hpp"
#include "kdlib/core/fingerprint.hpp"
#include "kdlib/data/confidence.hpp"
#include "kdlib/io/utf8.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_FUNC ConfidenceWeights::ConfidenceWeights(ConfidenceSettings settings) : settings_(settings) {
  require<ConfigError>(settings.temperature > 0 && std::isfinite(settings.temperature), "[confidence] temperature is ",
                       settings.temperature, "; it must be above 0");
  require<ConfigError>(settings.least > 0 && settings.least <= 1 && settings.most >= 1 && std::isfinite(settings.most),
                       "[confidence] the limits of a weight are ", settings.least, " and ", settings.most,
                       "; 0 < least <= 1 <= most is needed");
  require<ConfigError>(settings.decay > 0 && settings.decay <= 1, "[confidence] decay is ", settings.decay,
                       "; it must be above 0 and at most 1");
}

KDLIB_FUNC void ConfidenceWeights::begin_step(const std::vector<float>& log_probs,
                                              const std::vector<std::int32_t>& spans) {
  require<ShapeError>(log_probs.size() == spans.size(), "[confidence] ", log_probs.size(), " log-probabilities and ",
                      spans.size(), " spans");
  if (log_probs.empty()) return;
  double sum[2] = {0, 0}, count[2] = {0, 0};
  for (std::size_t r = 0; r < log_probs.size(); ++r) {
    sum[place(spans[r])] += static_cast<double>(log_probs[r]);
    count[place(spans[r])] += 1;
  }
  for (std::size_t s = 0; s < 2; ++s) {
    sum_[s] = settings_.decay * sum_[s] + sum[s];
    count_[s] = settings_.decay * count_[s] + count[s];
  }
}

KDLIB_FUNC double ConfidenceWeights::center(std::int32_t span) const {
  const std::size_t s = place(span);
  require<ConfigError>(count_[s] > 0, "[confidence] no step with tokens has begun: there is no center yet");
  return sum_[s] / count_[s];
}

KDLIB_FUNC double ConfidenceWeights::weight(float log_prob, std::int32_t span) const {
  const double exponent = (static_cast<double>(log_prob) - center(span)) / settings_.temperature;
  if (exponent <= std::log(settings_.least)) return settings_.least;
  if (exponent >= std::log(settings_.most)) return settings_.most;
  return std::exp(exponent);
}

KDLIB_FUNC std::string ConfidenceWeights::state() const {
  std::string text;
  for (std::size_t s = 0; s < 2; ++s)
    for (const double number : {sum_[s], count_[s]}) {
      std::uint64_t bits = 0;
      std::memcpy(&bits, &number, sizeof bits);
      text += hex_digits(bits);
    }
  return text;
}

KDLIB_FUNC void ConfidenceWeights::restore(std::string_view state) {
  double numbers[4] = {};
  bool good = state.size() == 64;
  for (std::size_t i = 0; good && i < 4; ++i) {
    std::uint64_t bits = 0;
    const char *begin = state.data() + 16 * i, *end = begin + 16;
    const auto result = std::from_chars(begin, end, bits, 16);
    good = result.ec == std::errc() && result.ptr == end;
    std::memcpy(&numbers[i], &bits, sizeof bits);
    good = good && std::isfinite(numbers[i]);
  }
  require<FormatError>(good && numbers[1] >= 0 && numbers[3] >= 0, "[confidence] '", printable(state),
                       "' is no state of running sums");
  for (std::size_t s = 0; s < 2; ++s) sum_[s] = numbers[2 * s], count_[s] = numbers[2 * s + 1];
}

KDLIB_FUNC bool is_shared_step(std::int64_t step, double share) {
  require<ConfigError>(share >= 0 && share <= 1, "[steps] the share of steps is ", share, "; it must be in [0, 1]");
  require<ConfigError>(step >= 0 && step < 4'000'000'000'000, "[steps] step ", step);
  const auto p = static_cast<std::int64_t>(std::llround(share * 1e6));
  return (step + 1) * p / 1'000'000 > step * p / 1'000'000;
}

KDLIB_NAMESPACE_END

#endif
