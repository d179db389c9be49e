// SPDX-License-Identifier: Apache-2.0
// Bodies of multiple_choice.hpp.
#ifndef KDLIB_EVAL_MULTIPLE_CHOICE_INL_HPP
#define KDLIB_EVAL_MULTIPLE_CHOICE_INL_HPP

#include <cmath>
#include <limits>

#include "kdlib/eval/multiple_choice.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_FUNC ChoiceScore score_choice(std::span<const double> values, const ChoiceKey& key) {
  require<ShapeError>(!values.empty() && values.size() == key.lengths.size(), "[score_choice] ", values.size(),
                      " log-likelihoods, ", key.lengths.size(), " lengths");
  require<InputError>(key.gold >= 0 && key.gold < static_cast<std::int64_t>(values.size()), "[score_choice] gold is ",
                      key.gold, " of ", values.size(), " choices");
  const auto per_character = [&](std::size_t i) {
    return key.lengths[i] > 0 ? values[i] / static_cast<double>(key.lengths[i])
                              : -std::numeric_limits<double>::infinity();
  };
  std::size_t best = 0, best_norm = 0;
  for (std::size_t i = 1; i < values.size(); ++i) {
    if (values[i] > values[best]) best = i;
    if (per_character(i) > per_character(best_norm)) best_norm = i;
  }
  const auto gold = static_cast<std::size_t>(key.gold);
  return {best == gold, best_norm == gold};
}

KDLIB_FUNC MeanError mean_and_error(std::span<const double> values) {
  const auto n = static_cast<double>(values.size());
  MeanError out{0, std::numeric_limits<double>::quiet_NaN(), static_cast<std::int64_t>(values.size())};
  if (values.empty()) return out;
  for (const double x : values) out.mean += x;
  out.mean /= n;
  if (values.size() < 2) return out;
  double squares = 0;
  for (const double x : values) squares += (x - out.mean) * (x - out.mean);
  out.error = std::sqrt(squares / (n - 1)) / std::sqrt(n);
  return out;
}

KDLIB_FUNC MeanError pool(std::span<const MeanError> groups) {
  MeanError out{0, std::numeric_limits<double>::quiet_NaN(), 0};
  double variance = 0;
  for (const MeanError& g : groups) {
    const auto n = static_cast<double>(g.count);
    out.mean += g.mean * n;
    out.count += g.count;
    variance += (n - 1) * g.error * g.error * n;
  }
  if (out.count == 0) return out;
  const auto n = static_cast<double>(out.count), k = static_cast<double>(groups.size());
  out.mean /= n;
  if (n > k) out.error = std::sqrt(variance / (n - k) / n);
  return out;
}

KDLIB_NAMESPACE_END

#endif
