// SPDX-License-Identifier: Apache-2.0
// Adaptive Kullback-Leibler divergence (Wu et al., "Rethinking Kullback-Leibler Divergence in Knowledge Distillation
// for Large Language Models", 2024).
#ifndef KDLIB_LOSS_ADAPTIVE_KL_HPP
#define KDLIB_LOSS_ADAPTIVE_KL_HPP

#include "kdlib/core/error.hpp"
#include "kdlib/loss/concepts.hpp"
#include "kdlib/loss/terms.hpp"

KDLIB_NAMESPACE_BEGIN

/// L = a KL(p_t || p_s) + (1 - a) KL(p_s || p_t) with a = g_head / (g_head + g_tail) of each row, where p_t is the
/// teacher, p_s the student and D = log p_s - log p_t. g_head and g_tail are sums of |p_s - p_t| over the head and the
/// tail. The head is the smallest set of the teacher's most probable entries whose mass reaches head_mass (of equal
/// entries the lower id first); the tail is all other entries. If the student errs on the head, the forward KL weighs
/// more; if it errs on the tail, the reverse KL does. a carries no gradient and is 1/2 if both models are equal. The
/// gradient is (a (p_s - p_t) + (1 - a) p_s (D - KL(p_s || p_t))) / T, times T^2 if t_squared.
struct AdaptiveKl {
  static constexpr bool reads_teacher = true;
  static constexpr bool reads_head_share = true;
  static constexpr Moments moments = {.reverse_kl = true};
  double head_mass = 0.5;  // in (0, 1), mass of the teacher at temperature T
  float temperature = 1;   // > 0, of both models
  bool t_squared = true;

  template <class Self, class F>
  static void visit_fields(Self& self, F&& f) {
    f(FieldInfo{"head_mass", "", "in (0, 1)", "mass of the teacher's most probable entries that form the head"},
      self.head_mass);
    f(detail::temperature_field, self.temperature);
    f(detail::t_squared_field, self.t_squared);
  }

  template <class P>
  KDLIB_INLINE EntryLoss<P> entry(const RowStatistics& row, const Entry<P>& x) const {
    const P forward = P(row.head_share), reverse = P(1 - row.head_share);
    return {forward * kl_term(x.p_t, x.p_s, x.log_ratio) + reverse * kl_term(x.p_s, x.p_t, -x.log_ratio),
            fma(reverse, x.p_s * x.log_ratio, forward * (x.p_s - x.p_t))};
  }
  KDLIB_HOST_DEVICE double derivative_sum(const RowStatistics& row) const {
    return (1 - row.head_share) * row.reverse_kl;
  }
  void validate() const {
    require<ConfigError>(head_mass > 0 && head_mass < 1, "[AdaptiveKl] head_mass is ", head_mass,
                         "; it must lie in (0, 1)");
  }
};

KDLIB_NAMESPACE_END

#endif
