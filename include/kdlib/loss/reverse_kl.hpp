// SPDX-License-Identifier: Apache-2.0
// Reverse Kullback-Leibler divergence, KL(student || teacher): the loss of full-vocabulary on-policy distillation.
#ifndef KDLIB_LOSS_REVERSE_KL_HPP
#define KDLIB_LOSS_REVERSE_KL_HPP

#include "kdlib/loss/concepts.hpp"
#include "kdlib/loss/terms.hpp"

KDLIB_NAMESPACE_BEGIN

/// L = sum p_s D with D = log p_s - log p_t, where p_s is the student and p_t the teacher. The gradient is p_s (D - L)
/// / T, times T^2 if t_squared. The value is summed from the terms p_s (e^-D - 1 + D), which are never negative
/// (kl_term()).
struct ReverseKl {
  static constexpr bool reads_teacher = true;
  static constexpr Moments moments = {.reverse_kl = true};
  float temperature = 1;  // > 0, of both models
  bool t_squared = true;

  template <class Self, class F>
  static void visit_fields(Self& self, F&& f) {
    f(detail::temperature_field, self.temperature);
    f(detail::t_squared_field, self.t_squared);
  }

  template <class P>
  KDLIB_INLINE EntryLoss<P> entry(const RowStatistics&, const Entry<P>& x) const {
    return {kl_term(x.p_s, x.p_t, -x.log_ratio), x.p_s * x.log_ratio};
  }
  KDLIB_HOST_DEVICE double derivative_sum(const RowStatistics& row) const { return row.reverse_kl; }
};

KDLIB_NAMESPACE_END

#endif
