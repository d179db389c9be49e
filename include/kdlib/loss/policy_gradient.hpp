// SPDX-License-Identifier: Apache-2.0
// Losses of the one token that was drawn in each row: on-policy distillation as a policy gradient, and the estimators
// k2 and k3 as losses.
#ifndef KDLIB_LOSS_POLICY_GRADIENT_HPP
#define KDLIB_LOSS_POLICY_GRADIENT_HPP

#include <array>

#include "kdlib/loss/concepts.hpp"

KDLIB_NAMESPACE_BEGIN

/// Returns e^log_ratio and its derivative. A log-ratio above 60 counts as 60, so that value and gradient stay finite
/// for a token that one model gives almost no probability.
KDLIB_HOST_DEVICE inline Dual ratio_of(Dual log_ratio) {
  const double e = ::exp(log_ratio.value > 60 ? 60 : log_ratio.value);
  return {e, e * log_ratio.derivative};
}

/// Minimises -A rho(y) for a drawn token y. The advantage A = log p_t(y) - log p_s(y) is a constant for the gradient
/// (detached). The ratio is rho = p_s(y) / mu(y), where mu is the distribution that y was drawn from. For y ~ mu the
/// expected gradient is that of KL(p_s || p_t). The reported value is rho (log p_s - log p_t), whose expectation is
/// that divergence. The gradient is not the derivative of the value, because A is held constant.
struct PolicyGradient {
  static constexpr bool reads_teacher_label = true;
  bool importance_ratio = true;  // true: weight by rho, which needs behaviour log-probabilities; false: y was drawn
                                 // from the full distribution of the present student, so rho = 1
  float ratio_limit = 0;      // > 0: rho is cut to this limit (truncated importance sampling) and then only weights the
                              // gradient of log p_s; 0: no limit
  float advantage_limit = 0;  // > 0: A is clipped to [-limit, limit]; 0: no limit

  template <class Self, class F>
  static void visit_fields(Self& self, F&& f) {
    f(FieldInfo{"importance_ratio", "", "", "weight by the ratio to the probability that the token was drawn with"},
      self.importance_ratio);
    f(FieldInfo{"ratio_limit", "", ">= 0", "the ratio is cut there; 0: no limit"}, self.ratio_limit);
    f(FieldInfo{"advantage_limit", "nats", ">= 0", "the advantage is clipped to it; 0: no limit"},
      self.advantage_limit);
  }

  /// Returns A - baseline, cut to [-advantage_limit, advantage_limit] if there is a limit.
  KDLIB_HOST_DEVICE Detached advantage(const LabelPoint& point, double baseline = 0) const;
  /// Returns rho, cut to ratio_limit if there is a limit; 1 without importance_ratio.
  KDLIB_HOST_DEVICE Dual ratio(const LabelPoint& point) const;
  KDLIB_HOST_DEVICE Dual at_label(const LabelPoint& point) const;
  KDLIB_HOST_DEVICE bool clamped(const LabelPoint& point) const { return clamped(point, 0); }
  KDLIB_HOST_DEVICE bool clamped(const LabelPoint& point, double baseline) const;
  bool corrects_by_ratio() const { return importance_ratio; }
  void validate() const;
  void check_inputs(const RowInputs& rows) const;
};

/// PolicyGradient with a baseline: the expected advantage of the row, E[A] = -KL(p_s || p_t), is subtracted from A. The
/// expected gradient for y ~ p_s (or y ~ mu with the ratio) is still that of the reverse KL, but its variance is
/// smaller. The loss reads the teacher's whole distribution for this one number. The reported value is that of
/// PolicyGradient.
struct BaselinePolicyGradient {
  static constexpr bool reads_teacher = true;
  static constexpr bool reads_teacher_label = true;
  static constexpr Moments moments = {.reverse_kl = true};
  PolicyGradient sampled{};

  template <class Self, class F>
  static void visit_fields(Self& self, F&& f) {
    PolicyGradient::visit_fields(self.sampled, f);
  }

  KDLIB_HOST_DEVICE Dual at_label(const LabelPoint& point) const;
  KDLIB_HOST_DEVICE bool clamped(const LabelPoint& point) const { return sampled.clamped(point, -point.reverse_kl); }
  bool corrects_by_ratio() const { return sampled.importance_ratio; }
  void validate() const { sampled.validate(); }
  void check_inputs(const RowInputs& rows) const { sampled.check_inputs(rows); }
};

/// Estimators of KL(p_s || p_t) from one token y ~ p_s, with r = p_t(y) / p_s(y) (Schulman, 2020): k1 = -log r, k2 =
/// (log r)^2 / 2, k3 = r - 1 - log r.
enum class KlEstimator { k1, k2, k3 };
constexpr std::array<const char*, 3> enum_names(KlEstimator) { return {"k1", "k2", "k3"}; }

/// An estimator used as a loss. The expected gradient of k2 is that of the reverse KL; the expected gradient of k3 is
/// that of the FORWARD KL. k1 does not compile.
template <KlEstimator Estimator>
struct SampledKl {
  static_assert(Estimator != KlEstimator::k1,
                "k1 cannot be a loss: its expected gradient is 0 and does not contain the teacher. Use "
                "kdlib::PolicyGradient, which takes k1 as a "
                "detached advantage.");
  static constexpr bool reads_teacher_label = true;

  template <class Self, class F>
  static void visit_fields(Self& self, F&& f) {
    static_cast<void>(self);
    constexpr KlEstimator estimator = Estimator;
    f(FieldInfo{"estimator", "", "k2 or k3", "of the reverse KL from one drawn token", true}, estimator);
  }

  KDLIB_HOST_DEVICE Dual at_label(const LabelPoint& point) const {
    const Dual log_r = -(point.log_prob - point.teacher_log_prob);
    if constexpr (Estimator == KlEstimator::k2) return 0.5 * (log_r * log_r);
    else return ratio_of(log_r) - 1.0 - log_r;
  }
};

KDLIB_NAMESPACE_END

#include "kdlib/loss/policy_gradient_inl.hpp"
#if KDLIB_HEADER_ONLY
#include "kdlib/loss/loss_checks_inl.hpp"
#endif

#endif
