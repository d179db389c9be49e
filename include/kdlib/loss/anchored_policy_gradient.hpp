// SPDX-License-Identifier: Apache-2.0
// On-policy distillation as a policy gradient with steps on given text in between, in one loss.
#ifndef KDLIB_LOSS_ANCHORED_POLICY_GRADIENT_HPP
#define KDLIB_LOSS_ANCHORED_POLICY_GRADIENT_HPP

#include "kdlib/loss/policy_gradient.hpp"

KDLIB_NAMESPACE_BEGIN

/// PolicyGradient for rows that a teacher scored, -log p_s(y) for rows whose teacher's log-probability is above 0,
/// which marks text that nobody scored (unscored_row). A = log p_t(y) - log p_s(y) is taken under the student that
/// trains, rho = min(p_s(y) / mu(y), ratio_limit): text from older weights counts less where they differ.
struct AnchoredPolicyGradient {
  static constexpr bool reads_teacher_label = true;
  PolicyGradient sampled{.ratio_limit = 5};

  template <class Self, class F>
  static void visit_fields(Self& self, F&& f) {
    PolicyGradient::visit_fields(self.sampled, f);
  }

  KDLIB_HOST_DEVICE Dual at_label(const LabelPoint& point) const {
    if (point.teacher_log_prob > 0) return -point.log_prob;
    return sampled.at_label(point);
  }
  KDLIB_HOST_DEVICE bool clamped(const LabelPoint& point) const {
    return !(point.teacher_log_prob > 0) && sampled.clamped(point, 0);
  }
  bool corrects_by_ratio() const { return sampled.importance_ratio; }
  void validate() const { sampled.validate(); }
  void check_inputs(const RowInputs& rows) const { sampled.check_inputs(rows); }
};

KDLIB_NAMESPACE_END

#endif
