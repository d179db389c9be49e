// SPDX-License-Identifier: Apache-2.0
// Total variation distance, half the sum of |p_s - p_t|.
#ifndef KDLIB_LOSS_TOTAL_VARIATION_HPP
#define KDLIB_LOSS_TOTAL_VARIATION_HPP

#include "kdlib/loss/concepts.hpp"

KDLIB_NAMESPACE_BEGIN

/// L = 1/2 sum |p_s - p_t| in [0, 1], where p_t is the teacher and p_s the student. The gradient is p_s (e - sum p_s e)
/// / T with e = 1/2 sign(p_s - p_t), where sign is 0 if both are equal, times T^2 if t_squared.
struct TotalVariation {
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
    const P half_sign = P(0.5) * sign(x.p_s - x.p_t);
    return {half_sign * (x.p_s - x.p_t), half_sign * x.p_s};
  }
  KDLIB_HOST_DEVICE double largest() const { return 1; }
};

KDLIB_NAMESPACE_END

#endif
