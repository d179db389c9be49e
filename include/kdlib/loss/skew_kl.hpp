// SPDX-License-Identifier: Apache-2.0
// Skew Kullback-Leibler divergences (Lee, 1999; for distillation Ko et al., DistiLLM, 2024): the second distribution of
// the divergence is mixed with a share of the first.
#ifndef KDLIB_LOSS_SKEW_KL_HPP
#define KDLIB_LOSS_SKEW_KL_HPP

#include "kdlib/core/error.hpp"
#include "kdlib/loss/concepts.hpp"
#include "kdlib/loss/terms.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {
inline void require_skew(const char* loss, double lambda) {
  require<ConfigError>(lambda == 0 || (lambda >= 1e-30 && lambda < 1), "[", loss, "] lambda is ", lambda,
                       "; it must lie in [0, 1), and be 0 where it is below 1e-30");
}
}  // namespace detail

/// L = KL(p_t || m) with m = lambda p_t + (1 - lambda) p_s, where p_t is the teacher and p_s the student. lambda = 0
/// gives the forward KL. L <= -log lambda.
struct SkewForwardKl {
  static constexpr bool reads_teacher = true;
  double lambda = 0.1;    // in [0, 1)
  float temperature = 1;  // > 0, of both models
  bool t_squared = true;

  template <class Self, class F>
  static void visit_fields(Self& self, F&& f) {
    f(FieldInfo{"lambda", "", "in [0, 1)", "share of the teacher mixed into the student"}, self.lambda);
    f(detail::temperature_field, self.temperature);
    f(detail::t_squared_field, self.t_squared);
  }

  template <class P>
  KDLIB_INLINE EntryLoss<P> entry(const RowStatistics&, const Entry<P>& x) const {
    if (lambda <= 0) return {kl_term(x.p_t, x.p_s, x.log_ratio), x.p_s - x.p_t};
    const P c = P(1 - lambda);
    const auto teacher = MixtureRatio<P>::of(P(lambda), c, x.log_ratio);
    return {teacher.term(x.p_t, x.p_s, c, x.log_ratio), c * x.p_s * teacher.slope};
  }
  KDLIB_HOST_DEVICE double largest() const { return -::log(lambda); }
  void validate() const { detail::require_skew("SkewForwardKl", lambda); }
};

/// L = KL(p_s || m) with m = (1 - lambda) p_t + lambda p_s, where p_t is the teacher and p_s the student. lambda = 0
/// gives the reverse KL. L <= -log lambda.
struct SkewReverseKl {
  static constexpr bool reads_teacher = true;
  double lambda = 0.1;    // in [0, 1)
  float temperature = 1;  // > 0, of both models
  bool t_squared = true;

  template <class Self, class F>
  static void visit_fields(Self& self, F&& f) {
    f(FieldInfo{"lambda", "", "in [0, 1)", "share of the student mixed into the teacher"}, self.lambda);
    f(detail::temperature_field, self.temperature);
    f(detail::t_squared_field, self.t_squared);
  }

  template <class P>
  KDLIB_INLINE EntryLoss<P> entry(const RowStatistics&, const Entry<P>& x) const {
    if (lambda <= 0) return {kl_term(x.p_s, x.p_t, -x.log_ratio), x.p_s * x.log_ratio};
    const P a = P(lambda), c = P(1 - lambda);
    const auto student = MixtureRatio<P>::of(a, c, -x.log_ratio);
    return {student.term(x.p_s, x.p_t, c, -x.log_ratio), x.p_s * fma(a, student.slope, student.log)};
  }
  KDLIB_HOST_DEVICE double largest() const { return -::log(lambda); }
  void validate() const { detail::require_skew("SkewReverseKl", lambda); }
};

KDLIB_NAMESPACE_END

#endif
