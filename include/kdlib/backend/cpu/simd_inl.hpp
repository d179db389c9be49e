// SPDX-License-Identifier: Apache-2.0
// SIMD packs of float for loss functors: AVX-512, AVX2 and portable, one interface. Every operator carries its target
// attribute, so all compile without -m flags; the copy constructor is user-written, so a pack is always passed by
// reference and its ABI does not depend on the target.
#ifndef KDLIB_BACKEND_CPU_SIMD_INL_HPP
#define KDLIB_BACKEND_CPU_SIMD_INL_HPP

#include <cstdint>
#include <cstring>

#include "kdlib/backend/cpu/simd_math_inl.hpp"
#include "kdlib/core/dtype.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// One number under the pack interface: the portable body for double, and for float where a row is walked entry by
/// entry.
template <class C>
struct ScalarPack : PackMath<ScalarPack<C>> {
  using scalar = C;
  static constexpr bool is_pack = true;
  static constexpr std::int64_t width = 1;
  C v;

  ScalarPack() = default;
  explicit ScalarPack(C x) : v(x) {}
  template <class A>
  requires(!std::is_same_v<A, C> && std::is_arithmetic_v<A>) explicit ScalarPack(A x) : v(static_cast<C>(x)) {}

  template <class S>
  static ScalarPack load(const S* p) {
    return ScalarPack(static_cast<C>(*p));
  }
  template <class S>
  static ScalarPack load_part(const S* p, std::int64_t, C) {
    return load(p);
  }
  template <class S>
  void store(S* p) const {
    *p = static_cast<S>(v);
  }
  template <class S>
  void store_part(S* p, std::int64_t) const {
    store(p);
  }
  static ScalarPack first(std::int64_t) { return ScalarPack(C(1)); }
  double sum() const { return static_cast<double>(v); }
  C largest() const { return v; }
  bool any_at_least(C bound) const { return v >= bound; }

  friend ScalarPack operator+(const ScalarPack& a, const ScalarPack& b) { return ScalarPack(a.v + b.v); }
  friend ScalarPack operator-(const ScalarPack& a, const ScalarPack& b) { return ScalarPack(a.v - b.v); }
  friend ScalarPack operator*(const ScalarPack& a, const ScalarPack& b) { return ScalarPack(a.v * b.v); }
  friend ScalarPack operator/(const ScalarPack& a, const ScalarPack& b) { return ScalarPack(a.v / b.v); }
  friend ScalarPack operator-(const ScalarPack& a) { return ScalarPack(-a.v); }
  static ScalarPack fma(const ScalarPack& a, const ScalarPack& b, const ScalarPack& c) {
    return ScalarPack(a.v * b.v + c.v);
  }
  static ScalarPack max(const ScalarPack& a, const ScalarPack& b) { return a.v > b.v ? a : b; }
  static ScalarPack min(const ScalarPack& a, const ScalarPack& b) { return a.v < b.v ? a : b; }
  static ScalarPack abs(const ScalarPack& a) { return a.v < C(0) ? -a : a; }
  static ScalarPack sqrt(const ScalarPack& a) { return ScalarPack(std::sqrt(a.v)); }
  static ScalarPack where_not_negative(const ScalarPack& x, const ScalarPack& a, const ScalarPack& b) {
    return x.v < C(0) ? b : a;
  }
  static ScalarPack sign(const ScalarPack& x) { return ScalarPack(C(x.v > C(0)) - C(x.v < C(0))); }
  /// 2^(t + offset), offset a whole number.
  static ScalarPack exp2(const ScalarPack& t, const ScalarPack& offset) {
    return ScalarPack(std::exp2(t.v + offset.v));
  }
  static ScalarPack exp2(const ScalarPack& t) { return ScalarPack(std::exp2(t.v)); }
  static ScalarPack exp(const ScalarPack& x) { return ScalarPack(std::exp(x.v)); }
  static ScalarPack expm1(const ScalarPack& x) { return ScalarPack(std::expm1(x.v)); }
  static ScalarPack expm1(const ScalarPack& x, ScalarPack& exponential) {
    exponential.v = std::exp(x.v);
    return ScalarPack(std::expm1(x.v));
  }
  static ScalarPack log(const ScalarPack& y, const ScalarPack& less_one) {
    return ScalarPack(kdlib::log(y.v, less_one.v));
  }
  static ScalarPack exp_remainder(const ScalarPack& x) { return ScalarPack(kdlib::exp_remainder(x.v)); }
  static ScalarPack log(const ScalarPack& x) { return ScalarPack(std::log(x.v)); }
  static ScalarPack log1p(const ScalarPack& x) { return ScalarPack(std::log1p(x.v)); }
};

}  // namespace detail
KDLIB_NAMESPACE_END

#include "kdlib/backend/cpu/simd_portable_inl.hpp"
#if defined(__x86_64__)
#include "kdlib/backend/cpu/simd_x86_inl.hpp"
#endif

#endif
