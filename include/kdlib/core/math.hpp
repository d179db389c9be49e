// SPDX-License-Identifier: Apache-2.0
// Scalar maths for host and device under the names that SIMD packs use too, so that one loss functor serves every lane
// type.
#ifndef KDLIB_CORE_MATH_HPP
#define KDLIB_CORE_MATH_HPP

#include <cmath>
#include <type_traits>

#include "kdlib/config.hpp"

/// Marks a function of a loss functor that runs once for each vocabulary entry. Such a function is always inlined into
/// the loops of the engine.
#define KDLIB_INLINE KDLIB_HOST_DEVICE __attribute__((always_inline)) inline

KDLIB_NAMESPACE_BEGIN

/// A lane type is one number (float, double) or a pack of numbers. A pack has a member `is_pack` that is true, and its
/// functions are static members.
template <class P>
concept PackLane = requires {
  requires P::is_pack;
};
template <class P>
concept ScalarLane = std::is_same_v<P, float> || std::is_same_v<P, double>;
template <class P>
concept Lane = PackLane<P> || ScalarLane<P>;

/// Returns the absolute value, lane by lane.
template <ScalarLane P>
KDLIB_INLINE P abs(P x) {
  return x < P(0) ? -x : x;
}
/// Returns a * b + c, rounded once (in hardware if the CPU has such an instruction).
template <ScalarLane P>
KDLIB_INLINE P fma(P a, P b, P c) {
  if constexpr (std::is_same_v<P, float>) return ::fmaf(a, b, c);
  else return ::fma(a, b, c);
}
template <ScalarLane P>
KDLIB_INLINE P exp(P x) {
  if constexpr (std::is_same_v<P, float>) return ::expf(x);
  else return ::exp(x);
}
template <ScalarLane P>
KDLIB_INLINE P expm1(P x) {
  if constexpr (std::is_same_v<P, float>) return ::expm1f(x);
  else return ::expm1(x);
}
template <ScalarLane P>
KDLIB_INLINE P log(P x) {
  if constexpr (std::is_same_v<P, float>) return ::logf(x);
  else return ::log(x);
}
template <ScalarLane P>
KDLIB_INLINE P log1p(P x) {
  if constexpr (std::is_same_v<P, float>) return ::log1pf(x);
  else return ::log1p(x);
}
/// Returns e^x - 1, which is exact near x = 0, and writes e^x to `exponential`, which is exact where e^x is small.
template <ScalarLane P>
KDLIB_INLINE P expm1(P x, P& exponential) {
  exponential = exp(x);
  return expm1(x);
}
/// Returns log y. `less_one` is y - 1, given apart because near y = 1 it can be more exact than y.
template <ScalarLane P>
KDLIB_INLINE P log(P y, P less_one) {
  return abs(less_one) < P(0.25) ? log1p(less_one) : log(y);
}
template <ScalarLane P>
KDLIB_INLINE P sqrt(P x) {
  if constexpr (std::is_same_v<P, float>) return ::sqrtf(x);
  else return ::sqrt(x);
}
/// max() returns the larger number and min() the smaller one. If b is NaN, the result is NaN.
template <ScalarLane P>
KDLIB_INLINE P max(P a, P b) {
  return a > b ? a : b;
}
template <ScalarLane P>
KDLIB_INLINE P min(P a, P b) {
  return a < b ? a : b;
}
/// Returns a if x >= 0 or x is NaN, else b.
template <ScalarLane P>
KDLIB_INLINE P where_not_negative(P x, P a, P b) {
  return x < P(0) ? b : a;
}
/// Returns the sign of x: -1, 0 or 1.
template <ScalarLane P>
KDLIB_INLINE P sign(P x) {
  return P(x > P(0)) - P(x < P(0));
}

/// Returns x, a number or a vector of one register, unchanged, and keeps the compiler from fusing the product x with a
/// following sum. Compilers may fuse a product with the sum that uses the product (GCC does so by default if the target
/// has such an instruction), and then the bits of results depend on compiler flags. The call costs no instruction, but
/// the compiler does not turn a loop that contains the call into a vector loop: write such loops with Lanes4. On a
/// device, use __fmul_rn instead.
template <class X>
KDLIB_INLINE X rounded(X x) {
#if !defined(__CUDA_ARCH__)
#if defined(__x86_64__)
  asm("" : "+x"(x));
#elif defined(__aarch64__)
  asm("" : "+w"(x));
#else
  asm("" : "+m"(x));
#endif
#endif
  return x;
}

/// Four floats, for loops whose products are rounded().
typedef float Lanes4 __attribute__((vector_size(16)));

namespace detail {
/// Returns x * y, rounded even if a sum follows, on host and device.
template <class X>
KDLIB_INLINE X rounded_product(X x, X y) {
#if defined(__CUDA_ARCH__)
  return __fmul_rn(x, y);
#else
  return rounded(x * y);
#endif
}
}  // namespace detail

/// Returns e^x of each lane. x must be below 80.
template <PackLane P>
KDLIB_INLINE P exp(const P& x) {
  return P::exp(x);
}
/// Returns e^x - 1 of each lane, exact near 0. With a second argument, e^x is written there.
template <PackLane P>
KDLIB_INLINE P expm1(const P& x) {
  return P::expm1(x);
}
/// Returns the natural logarithm of each lane. With a second argument `less_one` = y - 1, log y is exact near y = 1.
template <PackLane P>
KDLIB_INLINE P log(const P& x) {
  return P::log(x);
}
/// Returns log(1 + x) of each lane, exact near 0.
template <PackLane P>
KDLIB_INLINE P log1p(const P& x) {
  return P::log1p(x);
}
/// Returns e^x - 1 of each lane, exact near 0. With a second argument, e^x is written there.
template <PackLane P>
KDLIB_INLINE P expm1(const P& x, P& exponential) {
  return P::expm1(x, exponential);
}
/// Returns the natural logarithm of each lane. With a second argument `less_one` = y - 1, log y is exact near y = 1.
template <PackLane P>
KDLIB_INLINE P log(const P& y, const P& less_one) {
  return P::log(y, less_one);
}
/// Returns the square root of each lane.
template <PackLane P>
KDLIB_INLINE P sqrt(const P& x) {
  return P::sqrt(x);
}
/// Returns the absolute value, lane by lane.
template <PackLane P>
KDLIB_INLINE P abs(const P& x) {
  return P::abs(x);
}
/// Returns a * b + c of each lane, rounded once.
template <PackLane P>
KDLIB_INLINE P fma(const P& a, const P& b, const P& c) {
  return P::fma(a, b, c);
}
/// Returns the larger of both numbers, lane by lane.
template <PackLane P>
KDLIB_INLINE P max(const P& a, const P& b) {
  return P::max(a, b);
}
/// Returns the smaller of both numbers, lane by lane.
template <PackLane P>
KDLIB_INLINE P min(const P& a, const P& b) {
  return P::min(a, b);
}
/// Returns a where x >= 0, else b, lane by lane.
template <PackLane P>
KDLIB_INLINE P where_not_negative(const P& x, const P& a, const P& b) {
  return P::where_not_negative(x, a, b);
}
/// Returns the sign of each lane: -1, 0 or 1.
template <PackLane P>
KDLIB_INLINE P sign(const P& x) {
  return P::sign(x);
}

namespace detail {  // the namespace of the packs, so that a loss outside kdlib finds these operators
// A number in an operation with a pack is used for every entry of the pack.
#define KDLIB_PACK_AND_NUMBER(op)                                                                    \
  template <PackLane P, class A>                                                                     \
  requires std::is_arithmetic_v<A> KDLIB_INLINE P operator op(A a, const P& b) { return P(a) op b; } \
  template <PackLane P, class A>                                                                     \
  requires std::is_arithmetic_v<A> KDLIB_INLINE P operator op(const P& a, A b) { return a op P(b); }
KDLIB_PACK_AND_NUMBER(+)
KDLIB_PACK_AND_NUMBER(-)
KDLIB_PACK_AND_NUMBER(*)
KDLIB_PACK_AND_NUMBER(/)
#undef KDLIB_PACK_AND_NUMBER

template <class... A>
constexpr bool refuse_comparison() {
  static_assert(sizeof...(A) == 0,
                "a pack of entries cannot be compared; write where_not_negative(a - b, x, y) for (a >= b ? x : y), or "
                "max, min, abs, sign");
  return false;
}
#define KDLIB_PACK_COMPARISON(op)                                                       \
  template <class A, class B>                                                           \
  requires(PackLane<A> || PackLane<B>) constexpr bool operator op(const A&, const B&) { \
    return refuse_comparison<A, B>();                                                   \
  }
KDLIB_PACK_COMPARISON(<)
KDLIB_PACK_COMPARISON(>)
KDLIB_PACK_COMPARISON(<=)
KDLIB_PACK_COMPARISON(>=)
#undef KDLIB_PACK_COMPARISON

template <class P, class A>
P refuse_power(const P& x, const A&) {
  static_assert(sizeof(A) == 0,
                "there is no pow; write x * x, kdlib::sqrt(x), or kdlib::exp(P(y) * kdlib::log(x)) for x > 0");
  return x;
}
template <PackLane P, class A>
P pow(const P& x, const A& y) {
  return refuse_power(x, y);
}
}  // namespace detail
using detail::pow;
/// Does not compile; the compiler's message says what to write instead. Packs have no power function, so a loss must
/// not use one.
template <ScalarLane P, class A>
P pow(const P& x, const A& y) {
  return detail::refuse_power(x, y);
}

/// Returns (e^x - 1 - x) / x^2 for |x| <= 1/4 in float, with a relative error below 2e-6. The polynomial is the Taylor
/// polynomial of degree 4 whose last term is replaced by terms of lower degree (Chebyshev).
template <class P>
KDLIB_INLINE P exp_remainder_factor(const P& x) {
  const P p = fma(P(8.3488343e-3f), x, P(4.1753472e-2f));
  return fma(fma(p, x, P(1.6666642e-1f)), x, P(4.9999932e-1f));
}
/// Returns e^x - 1 - x for |x| <= 1/4 with a small error relative to the result, which is about x^2 / 2.
template <ScalarLane P>
KDLIB_INLINE P exp_remainder(P x) {
  if constexpr (std::is_same_v<P, double>) return ::expm1(x) - x;
  else return x * x * exp_remainder_factor<P>(x);
}
template <PackLane P>
KDLIB_INLINE P exp_remainder(const P& x) {
  return P::exp_remainder(x);
}

/// A number and its derivative with respect to one variable (differentiation in forward mode). Losses of a single token
/// are written with Dual.
struct Dual {
  double value = 0;
  double derivative = 0;

  KDLIB_HOST_DEVICE friend Dual operator-(Dual a) { return {-a.value, -a.derivative}; }
  KDLIB_HOST_DEVICE friend Dual operator+(Dual a, Dual b) { return {a.value + b.value, a.derivative + b.derivative}; }
  KDLIB_HOST_DEVICE friend Dual operator-(Dual a, Dual b) { return {a.value - b.value, a.derivative - b.derivative}; }
  KDLIB_HOST_DEVICE friend Dual operator*(Dual a, Dual b) {
    return {a.value * b.value, a.value * b.derivative + a.derivative * b.value};
  }
  KDLIB_HOST_DEVICE friend Dual operator+(Dual a, double b) { return {a.value + b, a.derivative}; }
  KDLIB_HOST_DEVICE friend Dual operator-(Dual a, double b) { return {a.value - b, a.derivative}; }
  KDLIB_HOST_DEVICE friend Dual operator*(double b, Dual a) { return {b * a.value, b * a.derivative}; }
};
KDLIB_HOST_DEVICE inline Dual exp(Dual a) {
  const double e = ::exp(a.value);
  return {e, e * a.derivative};
}

/// A number that carries no gradient: advantages and other coefficients of a policy gradient. Only detach() makes a
/// Detached from a differentiable number, and nothing turns a Detached back into a Dual, so a coefficient cannot be
/// differentiated by accident.
class Detached {
 public:
  KDLIB_HOST_DEVICE explicit Detached(double value) : value_(value) {}
  Detached(Dual) = delete;  // say detach(x): the derivative is dropped on purpose
  KDLIB_HOST_DEVICE double value() const { return value_; }

  KDLIB_HOST_DEVICE friend Detached operator*(Detached a, Detached b) { return Detached(a.value_ * b.value_); }
  KDLIB_HOST_DEVICE friend Detached operator+(Detached a, Detached b) { return Detached(a.value_ + b.value_); }
  KDLIB_HOST_DEVICE friend Detached operator-(Detached a, Detached b) { return Detached(a.value_ - b.value_); }
  KDLIB_HOST_DEVICE friend Dual operator*(Detached a, Dual b) { return a.value_ * b; }

 private:
  double value_;
};
KDLIB_HOST_DEVICE inline Detached detach(Dual x) { return Detached(x.value); }

KDLIB_NAMESPACE_END

#endif
