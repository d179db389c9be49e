// SPDX-License-Identifier: Apache-2.0
// Learning rates as pure functions of the step: schedule(step), where step = 0, 1, ... is the number of steps that were
// made before.
#ifndef KDLIB_OPTIM_SCHEDULE_HPP
#define KDLIB_OPTIM_SCHEDULE_HPP

#include <cstdint>

#include "kdlib/optim/concepts.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {
/// The fields of both schedules with a warm-up.
template <class Self, class F>
void visit_warmup_fields(Self& self, F&& f) {
  f(FieldInfo{"peak", "", "> 0", "rate after the warm-up"}, self.peak);
  f(FieldInfo{"warmup", "steps", "in [0, total]", "the rate rises to its peak over them"}, self.warmup);
  f(FieldInfo{"total", "steps", "> 0", "the rate reaches `final` there: the steps of the run"}, self.total);
  f(FieldInfo{"final", "", ">= 0", "rate at step `total` and behind it"}, self.final);
}
}  // namespace detail

/// The same rate at every step.
struct ConstantRate {
  double rate = 1e-3;  // > 0

  template <class Self, class F>
  static void visit_fields(Self& self, F&& f) {
    f(FieldInfo{"rate", "", "> 0", "of every step"}, self.rate);
  }
  double operator()(std::int64_t) const { return rate; }
  SettingsList describe() const;
};

/// The rate is peak * (step + 1) / warmup while step < warmup. Then it falls from peak in a straight line to `final` at
/// step `total`: final + (peak - final) * (total - step) / (total - warmup). After `total` it stays at `final`. Throws
/// ConfigError if total is not set or warmup is outside [0, total].
struct WarmupLinear {
  double peak = 1e-3;       // > 0
  std::int64_t warmup = 0;  // steps, 0 <= warmup <= total
  std::int64_t total = 0;   // steps, > 0: must be set
  double final = 0;         // rate at step `total`

  template <class Self, class F>
  static void visit_fields(Self& self, F&& f) {
    detail::visit_warmup_fields(self, f);
  }
  double operator()(std::int64_t step) const;
  SettingsList describe() const;
};

/// The same warm-up, then half a cosine: final + (peak - final) * (1 + cos(pi * (step - warmup) / (total - warmup))) /
/// 2. After `total` the rate stays at `final`. Throws as WarmupLinear does. Source: Loshchilov and Hutter, "SGDR"
/// (arXiv 1608.03983), without restarts.
struct WarmupCosine {
  double peak = 1e-3;       // > 0
  std::int64_t warmup = 0;  // steps, 0 <= warmup <= total
  std::int64_t total = 0;   // steps, > 0: must be set
  double final = 0;         // rate at step `total`

  template <class Self, class F>
  static void visit_fields(Self& self, F&& f) {
    detail::visit_warmup_fields(self, f);
  }
  double operator()(std::int64_t step) const;
  SettingsList describe() const;
};

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/optim/schedule_inl.hpp"
#endif

#endif
