// SPDX-License-Identifier: Apache-2.0
// Jensen-Shannon from log-ratios: no log(m) is formed, which would underflow or cancel.
#ifndef KDLIB_LOSS_JENSEN_SHANNON_INL_HPP
#define KDLIB_LOSS_JENSEN_SHANNON_INL_HPP

#include <limits>

#include "kdlib/loss/jensen_shannon.hpp"
#include "kdlib/loss/terms.hpp"

KDLIB_NAMESPACE_BEGIN

template <class P>
KDLIB_INLINE EntryLoss<P> JensenShannon::entry(const RowStatistics&, const Entry<P>& x) const {
  if (beta <= 0) return {kl_term(x.p_t, x.p_s, x.log_ratio), x.p_s - x.p_t};
  if (beta >= 1) return {kl_term(x.p_s, x.p_t, -x.log_ratio), x.p_s * x.log_ratio};
  const P b = P(beta), c = P(1 - beta), s = c * x.p_s, t = b * x.p_t;
  const auto logs = MixtureLogs<P>::of(c, b, s, t, x.log_ratio);
  const P h = s * logs.student, f = fma(t, logs.teacher, h);
  if (!scaled) return {f, h};
  const P factor = P(1 / (beta * (1 - beta)));
  return {f * factor, h * factor};
}

KDLIB_HOST_DEVICE inline double JensenShannon::largest() const {
  if (beta <= 0 || beta >= 1) return std::numeric_limits<double>::infinity();
  const double entropy = -beta * ::log(beta) - (1 - beta) * ::log1p(-beta);
  return scaled ? entropy / (beta * (1 - beta)) : entropy;
}

KDLIB_NAMESPACE_END

#endif
