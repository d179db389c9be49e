// SPDX-License-Identifier: Apache-2.0
// Scalar types: float, double and the 16-bit storage types bf16 and f16, with conversions that round to nearest even.
#ifndef KDLIB_CORE_DTYPE_HPP
#define KDLIB_CORE_DTYPE_HPP

#include <cstdint>
#include <type_traits>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {
/// Bit casts that also compile for a device (std::bit_cast is host only in nvcc 13's C++20 mode without extra flags).
KDLIB_HOST_DEVICE inline std::uint32_t float_bits(float x) {
  union {
    float f;
    std::uint32_t u;
  } v{x};
  return v.u;
}
KDLIB_HOST_DEVICE inline float bits_float(std::uint32_t u) {
  union {
    std::uint32_t u;
    float f;
  } v{u};
  return v.f;
}
}  // namespace detail

/// bfloat16, the upper half of a float. A NaN is converted to a quiet NaN.
struct bf16 {
  std::uint16_t bits = 0;

  bf16() = default;
  KDLIB_HOST_DEVICE explicit bf16(float x) : bits(round(x)) {}
  KDLIB_HOST_DEVICE explicit bf16(double x) : bf16(static_cast<float>(x)) {}
  template <class Integer>
  requires std::is_integral_v<Integer> KDLIB_HOST_DEVICE explicit bf16(Integer x) : bf16(static_cast<float>(x)) {}
  KDLIB_HOST_DEVICE operator float() const { return detail::bits_float(std::uint32_t{bits} << 16); }
  KDLIB_HOST_DEVICE static bf16 from_bits(std::uint16_t b) {
    bf16 r;
    r.bits = b;
    return r;
  }

 private:
  KDLIB_HOST_DEVICE static std::uint16_t round(float x) {
    const std::uint32_t u = detail::float_bits(x);
    if ((u & 0x7FFFFFFFu) > 0x7F800000u) return static_cast<std::uint16_t>((u >> 16) | 0x40u);
    return static_cast<std::uint16_t>((u + 0x7FFFu + ((u >> 16) & 1u)) >> 16);
  }
};

/// The 16-bit float of IEEE 754 (binary16), with subnormal numbers.
struct f16 {
  std::uint16_t bits = 0;

  f16() = default;
  KDLIB_HOST_DEVICE explicit f16(float x) : bits(round(x)) {}
  KDLIB_HOST_DEVICE explicit f16(double x) : f16(static_cast<float>(x)) {}
  template <class Integer>
  requires std::is_integral_v<Integer> KDLIB_HOST_DEVICE explicit f16(Integer x) : f16(static_cast<float>(x)) {}
  KDLIB_HOST_DEVICE operator float() const {
    const std::uint32_t sign = std::uint32_t{bits & 0x8000u} << 16;
    const std::uint32_t rest = bits & 0x7FFFu;
    if (rest >= 0x7C00u) return detail::bits_float(sign | 0x7F800000u | ((rest & 0x3FFu) << 13));
    if (rest >= 0x400u) return detail::bits_float(sign | ((rest << 13) + (112u << 23)));
    const float magnitude = static_cast<float>(rest) * 5.9604644775390625e-8f;  // rest * 2^-24
    return sign != 0 ? -magnitude : magnitude;
  }
  KDLIB_HOST_DEVICE static f16 from_bits(std::uint16_t b) {
    f16 r;
    r.bits = b;
    return r;
  }

 private:
  KDLIB_HOST_DEVICE static std::uint16_t round(float x) {
    const std::uint32_t u = detail::float_bits(x);
    const std::uint32_t sign = (u >> 16) & 0x8000u;
    const std::uint32_t a = u & 0x7FFFFFFFu;
    if (a > 0x7F800000u) return static_cast<std::uint16_t>(sign | 0x7E00u);
    if (a >= 0x477FF000u) return static_cast<std::uint16_t>(sign | 0x7C00u);  // rounds to 65536 or more
    if (a < 0x38800000u) {  // below 2^-14: the result is subnormal; adding 0.5 aligns the last bit and rounds to even
      const float aligned = detail::bits_float(a) + 0.5f;
      return static_cast<std::uint16_t>(sign | (detail::float_bits(aligned) - 0x3F000000u));
    }
    return static_cast<std::uint16_t>(sign | ((a + 0xFFFu + ((a >> 13) & 1u) - (112u << 23)) >> 13));
  }
};

/// The type in which sums over many values of T are formed.
template <class T>
struct Accumulate {
  using type = float;
};
template <>
struct Accumulate<double> {
  using type = double;
};
template <class T>
using accumulate_t = typename Accumulate<T>::type;

/// True for the types of 16 bits. Sums over such values, and the trained copy of such parameters, are kept in float.
template <class T>
inline constexpr bool is_sixteen_bit = std::is_same_v<T, bf16> || std::is_same_v<T, f16>;

/// The type of a parameter's gradient and of the values that an optimiser changes (Parameter::master): float for 16-bit
/// T.
template <class T>
using gradient_t = accumulate_t<T>;

/// The closed list of scalar types.
template <class T>
concept Scalar =
    std::is_same_v<T, float> || std::is_same_v<T, double> || std::is_same_v<T, bf16> || std::is_same_v<T, f16>;

/// The element types that files hold (safetensors and the plain types of GGUF).
enum class DType : std::uint8_t {
  boolean,
  f4,
  f6_e2m3,
  f6_e3m2,
  u8,
  i8,
  f8_e5m2,
  f8_e4m3,
  f8_e8m0,
  f8_e4m3fnuz,
  f8_e5m2fnuz,
  i16,
  u16,
  f16,
  bf16,
  i32,
  u32,
  f32,
  c64,
  f64,
  i64,
  u64
};

/// The element type of T: float, double, bf16, f16 or an integer type. Another type does not compile.
template <class T>
constexpr DType dtype_of() {
  if constexpr (std::is_same_v<T, float>) return DType::f32;
  else if constexpr (std::is_same_v<T, double>) return DType::f64;
  else if constexpr (std::is_same_v<T, bf16>) return DType::bf16;
  else if constexpr (std::is_same_v<T, f16>) return DType::f16;
  else if constexpr (std::is_same_v<T, std::int64_t>) return DType::i64;
  else if constexpr (std::is_same_v<T, std::int32_t>) return DType::i32;
  else if constexpr (std::is_same_v<T, std::uint32_t>) return DType::u32;
  else if constexpr (std::is_same_v<T, std::uint64_t>) return DType::u64;
  else if constexpr (std::is_same_v<T, std::uint8_t>) return DType::u8;
  else if constexpr (std::is_same_v<T, std::int8_t>) return DType::i8;
  else static_assert(sizeof(T) == 0, "this type has no DType");
}

/// The name of a scalar type in options and files: "float32", "float64", "bfloat16" or "float16".
template <class T>
constexpr const char* dtype_text() {
  constexpr DType type = dtype_of<T>();
  return type == DType::f32 ? "float32" : type == DType::f64 ? "float64" : type == DType::bf16 ? "bfloat16" : "float16";
}

KDLIB_NAMESPACE_END

#endif
