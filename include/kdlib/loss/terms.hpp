// SPDX-License-Identifier: Apache-2.0
// The terms that divergences share. The sum of a row keeps its precision, because each term is formed from its own
// log-ratio and never as a difference of numbers that are much larger than the term.
#ifndef KDLIB_LOSS_TERMS_HPP
#define KDLIB_LOSS_TERMS_HPP

#include "kdlib/core/math.hpp"

KDLIB_NAMESPACE_BEGIN

/// Returns own (e^r - 1 - r) with r = log(other / own), which is not negative. Over a row these terms sum to KL(own ||
/// other), because `other - own` sums to 0. For |r| <= 1/4 the term is formed from r and not from the difference of
/// both probabilities, whose rounding errors, 1e-7 of a row, are larger than a small divergence.
template <class P>
KDLIB_INLINE P kl_term(const P& own, const P& other, const P& r) {
  const P near = own * exp_remainder(r), far = (other - own) - own * r;
  return where_not_negative(P(0.0625f) - r * r, near, far);
}

/// Returns log(e^a + e^b) for finite numbers.
KDLIB_HOST_DEVICE inline double log_of_both(double a, double b) {
  const double high = a > b ? a : b, low = a > b ? b : a;
  return high + ::log1p(::exp(low - high));
}

/// Compares one distribution `own` of a row with a mixture m = a own + c other, where a + c = 1.
template <class P>
struct MixtureRatio {
  P log;     // log(own / m)
  P excess;  // m / own - 1
  P slope;   // 1 - own / m

  /// Makes the ratios from r = log(other / own). The weights a and c are both given, each rounded from double, so that
  /// m / own = a + c e^r loses no digit for a from 1e-30 to 1 - 1e-16, and its logarithm is also exact near 1.
  KDLIB_INLINE static MixtureRatio of(const P& a, const P& c, const P& r) {
    P e{0};
    const P y = c * expm1(min(P(60.0f), r), e), m = fma(c, e, a);  // beyond e^60 `own` is nothing beside `other`
    return {-kdlib::log(m, y), y, y / m};
  }
  /// Returns own (log(own / m) + m / own - 1), which is not negative and sums to KL(own || m) over a row.
  KDLIB_INLINE P term(const P& own, const P& other, const P& c, const P& r) const {
    const P near = own * (log + excess), far = own * log + c * (other - own);
    return where_not_negative(P(1.0f) - r, near, far);
  }
};

/// The logarithms log(p_s / m) and log(p_t / m) with m = teacher_weight p_t + student_weight p_s.
template <class P>
struct MixtureLogs {
  P student, teacher;

  /// `s` and `t` are the weighted probabilities, `d` is log(p_s / p_t). The logarithm is computed for the distribution
  /// that makes the larger part of m; m divided by this distribution lies between its weight and twice its weight. The
  /// other logarithm differs by d and is multiplied by the smaller of `s` and `t`.
  KDLIB_INLINE static MixtureLogs of(const P& student_weight, const P& teacher_weight, const P& s, const P& t,
                                     const P& d) {
    const P side = s - t, r = where_not_negative(side, -d, d);
    const P a = where_not_negative(side, student_weight, teacher_weight),
            c = where_not_negative(side, teacher_weight, student_weight);
    P e{0};
    const P y = c * expm1(min(P(80.0f), r), e);
    const P own = -kdlib::log(fma(c, e, a), y), other = own + r;
    return {where_not_negative(side, own, other), where_not_negative(side, other, own)};
  }
};

KDLIB_NAMESPACE_END

#endif
