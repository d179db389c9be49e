// SPDX-License-Identifier: Apache-2.0
// Skew Kullback-Leibler divergences (Lee, 1999; for distillation Ko et al., DistiLLM, 2024): the other distribution is
// mixed with a share of the own.
#ifndef KDLIB_LOSS_SKEW_KL_HPP
#define KDLIB_LOSS_SKEW_KL_HPP

#include "kdlib/core/error.hpp"
#include "kdlib/loss/concepts.hpp"

KDLIB_NAMESPACE_BEGIN

/// L = KL(p_t || m), m = lambda p_t + (1 - lambda) p_s. lambda = 0 is the forward KL; L <= -log lambda.
struct SkewForwardKl {
  static constexpr bool reads_teacher = true;
  double lambda = 0.1;    // in [0, 1)
  float temperature = 1;  // > 0, of both models
  bool t_squared = true;

  template <class P>
  KDLIB_INLINE EntryLoss<P> entry(const RowStatistics&, const Entry<P>& x) const {
    const P a = P(lambda), c = P(1 - lambda), h = x.p_s - x.p_t;
    if (lambda <= 0) return {h - x.p_t * x.log_ratio, h};
    const P psi = -log1p(c * expm1(min(x.log_ratio, P(60))));  // log(p_t / m); beyond e^60 p_t is nothing
    return {x.p_t * psi + c * h, c * h + a * x.p_t * expm1(psi)};
  }
  void validate() const {
    require<ConfigError>(lambda >= 0 && lambda < 1, "[SkewForwardKl] lambda is ", lambda, "; it must lie in [0, 1)");
  }
};

/// L = KL(p_s || m), m = (1 - lambda) p_t + lambda p_s. lambda = 0 is the reverse KL; L <= -log lambda.
struct SkewReverseKl {
  static constexpr bool reads_teacher = true;
  double lambda = 0.1;    // in [0, 1)
  float temperature = 1;  // > 0, of both models
  bool t_squared = true;

  template <class P>
  KDLIB_INLINE EntryLoss<P> entry(const RowStatistics&, const Entry<P>& x) const {
    const P a = P(lambda), c = P(1 - lambda), g = x.p_t - x.p_s;
    if (lambda <= 0) return {x.p_s * x.log_ratio + g, x.p_s * x.log_ratio};
    const P phi = -log1p(c * expm1(min(-x.log_ratio, P(60))));  // log(p_s / m)
    return {x.p_s * phi + c * g, x.p_s * (phi - a * expm1(phi))};
  }
  void validate() const {
    require<ConfigError>(lambda >= 0 && lambda < 1, "[SkewReverseKl] lambda is ", lambda, "; it must lie in [0, 1)");
  }
};

KDLIB_NAMESPACE_END

#endif
