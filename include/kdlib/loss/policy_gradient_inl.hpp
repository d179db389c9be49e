// SPDX-License-Identifier: Apache-2.0
// The policy gradient's arithmetic: the type Detached keeps the teacher's advantage out of the differentiation.
#ifndef KDLIB_LOSS_POLICY_GRADIENT_INL_HPP
#define KDLIB_LOSS_POLICY_GRADIENT_INL_HPP

#include "kdlib/loss/policy_gradient.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_HOST_DEVICE inline Detached PolicyGradient::advantage(const LabelPoint& point, double baseline) const {
  const double a = (Detached(point.teacher_log_prob) - detach(point.log_prob)).value() - baseline;
  if (!(advantage_limit > 0)) return Detached(a);
  const double limit = static_cast<double>(advantage_limit);
  return Detached(a > limit ? limit : (a < -limit ? -limit : a));
}

KDLIB_HOST_DEVICE inline Dual PolicyGradient::ratio(const LabelPoint& point) const {
  if (!importance_ratio || !point.has_behaviour) return {1, 1};  // d rho / d log p_s = rho
  const Dual rho = ratio_of(point.log_prob - point.behaviour_log_prob);
  const double limit = static_cast<double>(ratio_limit);
  // Truncated importance sampling keeps c * grad log p_s: the cut weight multiplies the score, it is not
  // differentiated.
  return limit > 0 && rho.value > limit ? Dual{limit, limit} : rho;
}

KDLIB_HOST_DEVICE inline Dual PolicyGradient::at_label(const LabelPoint& point) const {
  return -(advantage(point) * ratio(point));
}

KDLIB_HOST_DEVICE inline Dual BaselinePolicyGradient::at_label(const LabelPoint& point) const {
  const Dual rho = sampled.ratio(point);
  return {-(sampled.advantage(point).value() * rho.value),
          -(sampled.advantage(point, -point.reverse_kl).value() * rho.derivative)};
}

KDLIB_HOST_DEVICE inline bool PolicyGradient::clamped(const LabelPoint& point, double baseline) const {
  PolicyGradient free = *this;
  free.ratio_limit = free.advantage_limit = 0;
  return ratio(point).value != free.ratio(point).value ||
         advantage(point, baseline).value() != free.advantage(point, baseline).value();
}

KDLIB_NAMESPACE_END

#endif
