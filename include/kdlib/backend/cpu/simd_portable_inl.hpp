// SPDX-License-Identifier: Apache-2.0
// Four floats in the vector extension of g++ and clang: what every 64-bit machine has (SSE2, NEON).
#ifndef KDLIB_BACKEND_CPU_SIMD_PORTABLE_INL_HPP
#define KDLIB_BACKEND_CPU_SIMD_PORTABLE_INL_HPP

#include "kdlib/backend/cpu/simd_inl.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

struct PortablePack : PackMath<PortablePack> {
  using scalar = float;
  typedef float Vector __attribute__((vector_size(16)));
  typedef std::int32_t Bits __attribute__((vector_size(16)));
  static constexpr bool is_pack = true;
  static constexpr std::int64_t width = 4;
  Vector v;

  PortablePack() {}
  PortablePack(const PortablePack& o) : PackMath(), v(o.v) {}
  PortablePack& operator=(const PortablePack& o) {
    v = o.v;
    return *this;
  }
  explicit PortablePack(float x) : v(Vector{} + x) {}
  explicit PortablePack(double x) : PortablePack(static_cast<float>(x)) {}
  explicit PortablePack(int x) : PortablePack(static_cast<float>(x)) {}
  static PortablePack of(const Vector& x) {
    PortablePack p;
    p.v = x;
    return p;
  }

  template <class S>
  static PortablePack load(const S* p) {
    PortablePack r;
    for (int i = 0; i < 4; ++i) r.v[i] = static_cast<float>(p[i]);
    return r;
  }
  template <class S>
  static PortablePack load_part(const S* p, std::int64_t count, float fill) {
    PortablePack r(fill);
    for (std::int64_t i = 0; i < count; ++i) r.v[i] = static_cast<float>(p[i]);
    return r;
  }
  template <class S>
  void store(S* p) const {
    for (int i = 0; i < 4; ++i) p[i] = static_cast<S>(v[i]);
  }
  template <class S>
  void store_part(S* p, std::int64_t count) const {
    for (std::int64_t i = 0; i < count; ++i) p[i] = static_cast<S>(v[i]);
  }
  /// 1 in the first `count` lanes, else 0.
  static PortablePack first(std::int64_t count) {
    PortablePack r(0.0f);
    for (std::int64_t i = 0; i < count; ++i) r.v[i] = 1.0f;
    return r;
  }
  double sum() const {
    return (static_cast<double>(v[0]) + static_cast<double>(v[1])) +
           (static_cast<double>(v[2]) + static_cast<double>(v[3]));
  }
  float largest() const {
    float m = v[0];
    for (int i = 1; i < 4; ++i) m = m > v[i] ? m : v[i];
    return m;
  }
  bool any_at_least(float bound) const { return v[0] >= bound || v[1] >= bound || v[2] >= bound || v[3] >= bound; }

  friend PortablePack operator+(const PortablePack& a, const PortablePack& b) { return of(a.v + b.v); }
  friend PortablePack operator-(const PortablePack& a, const PortablePack& b) { return of(a.v - b.v); }
  friend PortablePack operator*(const PortablePack& a, const PortablePack& b) { return of(a.v * b.v); }
  friend PortablePack operator/(const PortablePack& a, const PortablePack& b) { return of(a.v / b.v); }
  friend PortablePack operator-(const PortablePack& a) { return of(-a.v); }
  static PortablePack fma(const PortablePack& a, const PortablePack& b, const PortablePack& c) {
    return of(a.v * b.v + c.v);
  }
  static PortablePack max(const PortablePack& a, const PortablePack& b) { return of(a.v > b.v ? a.v : b.v); }
  static PortablePack min(const PortablePack& a, const PortablePack& b) { return of(a.v < b.v ? a.v : b.v); }
  static PortablePack abs(const PortablePack& a) { return of(bits_to_float(float_to_bits(a.v) & 0x7FFFFFFF)); }
  static PortablePack sqrt(const PortablePack& a) {
    PortablePack r;
    for (int i = 0; i < 4; ++i) r.v[i] = std::sqrt(a.v[i]);
    return r;
  }
  static PortablePack where_not_negative(const PortablePack& x, const PortablePack& a, const PortablePack& b) {
    return of(x.v < Vector{} ? b.v : a.v);
  }
  static PortablePack sign(const PortablePack& x) {
    const Vector one = Vector{} + 1.0f;
    return of((x.v > Vector{} ? one : Vector{}) - (x.v < Vector{} ? one : Vector{}));
  }
  static PortablePack round(const PortablePack& x) {
    const Vector magic = Vector{} + 12582912.0f;  // 1.5 * 2^23: nothing is left behind the point
    const Vector huge = Vector{} + 4194304.0f;
    const Vector shifted = x.v + magic;
    const Vector back = shifted - magic;
    return of(((x.v > huge) | (x.v < -huge)) ? x.v : back);
  }
  static PortablePack scale2(const PortablePack& p, const PortablePack& n) {
    const Vector low = Vector{} - 127.0f;
    const Vector high = Vector{} + 128.0f;
    const Vector bounded = n.v < low ? low : n.v, m = bounded > high ? high : bounded;
    const Bits e = (__builtin_convertvector(m, Bits) + 127) << 23;
    return of(p.v * bits_to_float(e));
  }
  static PortablePack split(const PortablePack& y, const PortablePack& near_one, PortablePack& exponent) {
    const Bits bits = float_to_bits(y.v);
    const Bits e = (bits - 0x3F3504F3) >> 23;
    exponent = of(__builtin_convertvector(e, Vector));
    const Vector f = bits_to_float(bits - (e << 23)) - 1.0f;
    return of(e == Bits{} ? near_one.v : f);
  }

 private:
  static Bits float_to_bits(const Vector& x) {
    Bits b;
    std::memcpy(&b, &x, sizeof b);
    return b;
  }
  static Vector bits_to_float(const Bits& b) {
    Vector x;
    std::memcpy(&x, &b, sizeof x);
    return x;
  }
};

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
