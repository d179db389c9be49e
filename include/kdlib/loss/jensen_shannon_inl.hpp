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
  // phi = log(p_s / m), psi = log(p_t / m) = phi - D. m / p_s = 1 + beta (e^-D - 1): with the smaller of beta and 1 -
  // beta in front, the sum of both to 1 is never needed in the lane's precision. Beyond e^60 the rest of D is added
  // outside.
  const bool from_student = beta <= 0.5;
  const P e = from_student ? d : -d;
  const P near = max(e, P(-60));
  const P log_share = (e - near) - log1p((from_student ? b : c) * expm1(-near));
  const P phi = from_student ? log_share : log_share + d;
  const P psi = from_student ? log_share - d : log_share;
  const P h = c * x.p_s * phi;
  const P f = h + b * x.p_t * psi;
  if (!scaled) return {f, h};
  const P s = P(1 / (beta * (1 - beta)));
  return {f * s, h * s};
}

inline void JensenShannon::validate() const {
  require<ConfigError>(beta >= 0 && beta <= 1, "[JensenShannon] beta is ", beta, "; it must lie in [0, 1]");
}

KDLIB_NAMESPACE_END

#endif
