// SPDX-License-Identifier: Apache-2.0
// Jensen-Shannon from log-ratios: nothing here forms log(m), which would underflow or cancel.
#ifndef KDLIB_LOSS_JENSEN_SHANNON_INL_HPP
#define KDLIB_LOSS_JENSEN_SHANNON_INL_HPP

#include "kdlib/loss/jensen_shannon.hpp"

KDLIB_NAMESPACE_BEGIN

template <class P>
KDLIB_INLINE EntryLoss<P> JensenShannon::entry(const RowStatistics&, const Entry<P>& x) const {
  const P d = x.log_ratio;
  if (beta <= 0) return {(x.p_s - x.p_t) - x.p_t * d, x.p_s - x.p_t};
  if (beta >= 1) return {x.p_s * d + (x.p_t - x.p_s), x.p_s * d};
  const P b = P(beta), c = P(1 - beta);
  // phi = log p_s - log m. With the larger of the two probabilities taken out of m, the rest is log1p of a number in (-1, 0].
  const P u = expm1(-abs(d));
  const P phi = min(d, P(0)) - log1p(where_not_negative(d, b, c) * u);
  const P h = c * x.p_s * phi;
  const P f = h + b * x.p_t * (phi - d);
  const P s = P(scaled ? 1 / (beta * (1 - beta)) : 1.0f);
  return {f * s, h * s};
}

inline void JensenShannon::validate() const {
  require<ConfigError>(beta >= 0 && beta <= 1, "[JensenShannon] beta is ", beta, "; it must lie in [0, 1]");
}

KDLIB_NAMESPACE_END

#endif
