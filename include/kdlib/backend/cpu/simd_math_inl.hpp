// SPDX-License-Identifier: Apache-2.0
// exp2, exp, expm1, log, log1p of float packs from a few primitives (fma, round, scale2, split). Errors are measured in
// tests/loss/vector_math_test.cpp and stand in docs/losses.md.
#ifndef KDLIB_BACKEND_CPU_SIMD_MATH_INL_HPP
#define KDLIB_BACKEND_CPU_SIMD_MATH_INL_HPP

#include <cmath>
#include <type_traits>

#include "kdlib/core/math.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Base of every pack. The polynomials are near-minimax fits whose first terms are exact, so that exp2(0) = 1 and
/// log1p(x) ~ x. Primitives of P: fma, max, round (to nearest), scale2(p, n) = p 2^n with p in [1/2, 2] (0 below the
/// normal range), split.
template <class P>
struct PackMath {
  /// 2^(t + offset), offset a whole number: what is subtracted for a normaliser does not cost accuracy. t + offset <=
  /// 127.
  KDLIB_INLINE static P exp2(const P& t, const P& offset) {
    const P n = P::round(t);
    return P::scale2(exp2_fraction(t - n), n + offset);
  }
  KDLIB_INLINE static P exp2(const P& t) {
    const P n = P::round(t);
    return P::scale2(exp2_fraction(t - n), n);
  }
  KDLIB_INLINE static P exp(const P& x) {
    const P n = P::round(x * P(1.44269504f));
    const P r = P::fma(n, P(2.12194440e-4f), P::fma(n, P(-6.93359375e-1f), x));
    return P::scale2(P::fma(fraction(r), r * r, r) + P(1.0f), n);
  }
  /// Accurate relative to its own size near 0; -1 far below 0.
  KDLIB_INLINE static P expm1(const P& x) {
    P exponential;
    return expm1(x, exponential);
  }
  /// The same, and e^x in `exponential`: accurate relative to its own size, e^-80 below x = -80.
  KDLIB_INLINE static P expm1(const P& x, P& exponential) {
    const P y = P::max(P(-80.0f), x);
    const P n = P::round(y * P(1.44269504f));
    const P r = P::fma(n, P(2.12194440e-4f), P::fma(n, P(-6.93359375e-1f), y));
    const P q = P::fma(fraction(r), r * r, r);  // e^r - 1
    const P scale = P::scale2(P(1.0f), n);
    exponential = P::fma(scale, q, scale);
    return P::fma(scale, q, scale - P(1.0f));
  }
  /// x positive and normal; 0 gives about -88.
  KDLIB_INLINE static P log(const P& x) { return log_of(x, x - P(1.0f)); }
  /// log y with y - 1 more exactly known where y is near 1; y positive and normal.
  KDLIB_INLINE static P log(const P& y, const P& less_one) { return log_of(y, less_one); }
  /// e^x - 1 - x for |x| <= 1/4.
  KDLIB_INLINE static P exp_remainder(const P& x) { return x * x * exp_remainder_factor(x); }
  /// x > -1.
  KDLIB_INLINE static P log1p(const P& x) { return log_of(x + P(1.0f), x); }

 private:
  /// 2^r on |r| <= 1/2.
  KDLIB_INLINE static P exp2_fraction(const P& r) {
    P p = P(1.33813025e-3f);
    p = P::fma(p, r, P(9.66636852e-3f));
    p = P::fma(p, r, P(5.55038101e-2f));
    p = P::fma(p, r, P(2.40223490e-1f));
    p = P::fma(p, r, P(6.93147181e-1f));
    return P::fma(p, r, P(1.0f));
  }
  /// (e^r - 1 - r) / r^2 on |r| <= ln2 / 2.
  KDLIB_INLINE static P fraction(const P& r) {
    P p = P(1.39261761e-3f);
    p = P::fma(p, r, P(8.36317307e-3f));
    p = P::fma(p, r, P(4.16665547e-2f));
    p = P::fma(p, r, P(1.66665770e-1f));
    return P::fma(p, r, P(0.5f));
  }
  /// log(y) with y = 1 + f known more exactly through f where y is near 1.
  KDLIB_INLINE static P log_of(const P& y, const P& near_one) {
    P exponent;
    const P f = P::split(y, near_one, exponent);  // y = 2^exponent (1 + f), 1 + f in [sqrt 1/2, sqrt 2)
    P p = P(8.78726549e-2f);
    p = P::fma(p, f, P(-1.41596470e-1f));
    p = P::fma(p, f, P(1.48347868e-1f));
    p = P::fma(p, f, P(-1.65884885e-1f));
    p = P::fma(p, f, P(1.99720497e-1f));
    p = P::fma(p, f, P(-2.50011477e-1f));
    p = P::fma(p, f, P(3.33336706e-1f));
    p = P::fma(p, f, P(-4.99999971e-1f));
    return P::fma(exponent, P(6.93147181e-1f), P::fma(p, f * f, f));
  }
};

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
