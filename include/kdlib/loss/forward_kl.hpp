// SPDX-License-Identifier: Apache-2.0
// Forward Kullback-Leibler divergence, KL(teacher || student): the loss of Hinton et al. (2015).
#ifndef KDLIB_LOSS_FORWARD_KL_HPP
#define KDLIB_LOSS_FORWARD_KL_HPP

#include "kdlib/loss/concepts.hpp"
#include "kdlib/loss/terms.hpp"

KDLIB_NAMESPACE_BEGIN

/// L = sum p_t (log p_t - log p_s), where p_t is the teacher and p_s the student. L is a true divergence: 0 at p_s =
/// p_t, no constant is dropped. The gradient is (p_s - p_t) / T, times T^2 if t_squared. The value is summed from the
/// terms p_t (e^D - 1 - D), D = log p_s - log p_t, which are never negative (kl_term()).
struct ForwardKl {
  static constexpr bool reads_teacher = true;
  float temperature = 1;  // > 0, of both models
  bool t_squared = true;

  template <class Self, class F>
  static void visit_fields(Self& self, F&& f) {
    f(detail::temperature_field, self.temperature);
    f(detail::t_squared_field, self.t_squared);
  }

  template <class P>
  KDLIB_INLINE EntryLoss<P> entry(const RowStatistics&, const Entry<P>& x) const {
    return {kl_term(x.p_t, x.p_s, x.log_ratio), x.p_s - x.p_t};
  }
  KDLIB_HOST_DEVICE double derivative_sum(const RowStatistics&) const { return 0; }
};

KDLIB_NAMESPACE_END

#endif
