// SPDX-License-Identifier: Apache-2.0
// One loss for on-policy distillation as a policy gradient that alternates with steps on given text.
#ifndef KDLIB_LOSS_ANCHORED_POLICY_GRADIENT_HPP
#define KDLIB_LOSS_ANCHORED_POLICY_GRADIENT_HPP

#include "kdlib/loss/policy_gradient.hpp"

KDLIB_NAMESPACE_BEGIN

/// For rows that a teacher scored, the loss is PolicyGradient. For rows whose teacher's log-probability is above 0,
/// which marks text that no teacher scored (unscored_row), the loss is -log p_s(y). The advantage A = log p_t(y) - log
/// p_s(y) is computed with the student in training. The ratio is rho = min(p_s(y) / mu(y), ratio_limit), where mu is
/// the model that drew y, so that text from older weights is corrected for the difference to the present ones.
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
