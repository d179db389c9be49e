// SPDX-License-Identifier: Apache-2.0
// Bodies of schedule.hpp.
#ifndef KDLIB_OPTIM_SCHEDULE_INL_HPP
#define KDLIB_OPTIM_SCHEDULE_INL_HPP

#include <cmath>

#include "kdlib/core/math.hpp"
#include "kdlib/optim/schedule.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {
/// Share of the way from the end of the warm-up to `total` that is still to go, in [0, 1].
KDLIB_FUNC double schedule_share_left(const char* name, std::int64_t step, std::int64_t warmup, std::int64_t total) {
  require<ConfigError>(total > 0, "[", name, "] total is ", total,
                       " steps, which would make the rate 0 at every step; set it to the steps of the run");
  require<ConfigError>(warmup >= 0 && total >= warmup, "[", name, "] warmup is ", warmup, " steps, total ", total,
                       " steps; it needs 0 <= warmup <= total");
  if (step >= total) return 0;
  return static_cast<double>(total - step) / static_cast<double>(total - warmup);
}
}  // namespace detail

KDLIB_FUNC double WarmupLinear::operator()(std::int64_t step) const {
  const double left = detail::schedule_share_left("WarmupLinear", step, warmup, total);
  if (step < warmup) return peak * (static_cast<double>(step + 1) / static_cast<double>(warmup));
  return final + rounded((peak - final) * left);
}

KDLIB_FUNC double WarmupCosine::operator()(std::int64_t step) const {
  const double left = detail::schedule_share_left("WarmupCosine", step, warmup, total);
  if (step < warmup) return peak * (static_cast<double>(step + 1) / static_cast<double>(warmup));
  const double pi = 3.14159265358979323846;
  return final + rounded((peak - final) * 0.5 * (1 + std::cos(pi * (1 - left))));
}

KDLIB_FUNC SettingsList ConstantRate::describe() const { return named_fields("schedule", *this); }
KDLIB_FUNC SettingsList WarmupLinear::describe() const { return named_fields("schedule", *this); }
KDLIB_FUNC SettingsList WarmupCosine::describe() const { return named_fields("schedule", *this); }

KDLIB_NAMESPACE_END

#endif
