// SPDX-License-Identifier: Apache-2.0
// Loss terms without a teacher: entropy bonus, label smoothing, z-loss.
#ifndef KDLIB_LOSS_REGULARISERS_HPP
#define KDLIB_LOSS_REGULARISERS_HPP

#include "kdlib/loss/cross_entropy.hpp"
#include "kdlib/loss/sum.hpp"

KDLIB_NAMESPACE_BEGIN

/// L = sum p_s log p_s = -H(p_s), where H is the entropy: a positive weight of this term rewards entropy. The gradient
/// is p_s (log p_s + H) / T, times T^2 if t_squared.
struct NegativeEntropy {
  static constexpr Moments moments = {.student_entropy = true};
  float temperature = 1;  // > 0
  bool t_squared = true;

  template <class Self, class F>
  static void visit_fields(Self& self, F&& f) {
    f(detail::temperature_field, self.temperature);
    f(detail::t_squared_field, self.t_squared);
  }

  template <class P>
  KDLIB_INLINE EntryLoss<P> entry(const RowStatistics&, const StudentEntry<P>& x) const {
    return {x.p_s * x.log_p_s, x.p_s * x.log_p_s};
  }
  KDLIB_HOST_DEVICE double derivative_sum(const RowStatistics& row) const { return -row.student_entropy; }
};

/// L = -1/V sum log p_s, the cross-entropy against the uniform distribution over V entries. The gradient is (p_s - 1/V)
/// / T, times T^2 if t_squared. Do not use this loss for rows with masked columns, where log p_s is about -1e6.
struct UniformCrossEntropy {
  float temperature = 1;  // > 0
  bool t_squared = true;

  template <class Self, class F>
  static void visit_fields(Self& self, F&& f) {
    f(detail::temperature_field, self.temperature);
    f(detail::t_squared_field, self.t_squared);
  }

  template <class P>
  KDLIB_INLINE EntryLoss<P> entry(const RowStatistics& row, const StudentEntry<P>& x) const {
    const P h = P(-1 / row.columns);
    return {h * x.log_p_s, h};
  }
  KDLIB_HOST_DEVICE double derivative_sum(const RowStatistics&) const { return -1; }
};

/// L = (log sum e^z)^2 keeps the logits z near a normalised scale (PaLM; ST-MoE). The gradient is 2 (log sum e^z) p_s.
struct ZLoss {
  template <class Self, class F>
  static void visit_fields(Self& self, F&& f) {
    static_cast<void>(self), static_cast<void>(f);
  }

  KDLIB_HOST_DEVICE Dual at_normaliser(const RowStatistics& row) const {
    return {row.student_lse * row.student_lse, 2 * row.student_lse};
  }
};

/// Returns the cross-entropy against (1 - epsilon) 1[y] + epsilon / V for the label y (Szegedy et al., 2016).
inline Sum<CrossEntropy, UniformCrossEntropy> label_smoothing(double epsilon) {
  return Sum{Term{1 - epsilon, CrossEntropy{}}, Term{epsilon, UniformCrossEntropy{}}};
}

KDLIB_NAMESPACE_END

#endif
