// SPDX-License-Identifier: Apache-2.0
// Bodies of quant/gguf_encode.hpp. One function a format; layouts as in gguf_formats_inl.hpp.
#ifndef KDLIB_QUANT_GGUF_ENCODE_INL_HPP
#define KDLIB_QUANT_GGUF_ENCODE_INL_HPP

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>

#include "kdlib/core/dtype.hpp"
#include "kdlib/core/error.hpp"
#include "kdlib/quant/code_lanes_inl.hpp"
#include "kdlib/quant/gguf_encode.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

KDLIB_FUNC void store_f16(std::uint8_t* at, float value) {
  const f16 half(value);
  require<FormatError>(std::isfinite(static_cast<float>(half)), "[gguf] ", value,
                       " is beyond the range of F16 (65504); choose F32 or BF16");
  const std::uint16_t bits = half.bits;
  std::memcpy(at, &bits, 2);
}

KDLIB_FUNC void encode_q8_0(const float* x, std::uint8_t* b) {
  const float largest = value_range(x, 32).magnitude();
  const float d = largest / 127.0f, inverse = d != 0 ? 1.0f / d : 0.0f;
  store_f16(b, d);
  for (int j = 0; j < 32; ++j)
    b[2 + j] = static_cast<std::uint8_t>(static_cast<std::int8_t>(std::round(rounded(x[j] * inverse))));
}

/// Q4_0 and Q5_0: codes around 2^(bits - 1), the value of largest magnitude gets code 0.
template <int Bits>
void encode_symmetric(const float* x, float& d, std::uint8_t* codes) {
  constexpr int middle = 1 << (Bits - 1);
  const ValueRange range = value_range(x, 32);
  float extreme = 0;
  if (range.high != -range.low) extreme = range.high > -range.low ? range.high : range.low;
  else if (range.high != 0)  // the first of those of largest magnitude
    extreme = *std::find_if(x, x + 32, [&](float v) { return std::fabs(v) == range.high; });
  d = extreme / static_cast<float>(-middle);
  const float inverse = d != 0 ? 1.0f / d : 0.0f, shift = static_cast<float>(middle) + 0.5f;
  clamped_codes(
      x, 32, 0.0f, static_cast<float>(2 * middle - 1), [=](auto v) { return rounded(v * inverse) + shift; }, codes);
}

/// Q4_1 and Q5_1: codes from the smallest value up.
template <int Bits>
void encode_affine(const float* x, float& d, float& least, std::uint8_t* codes) {
  constexpr int top = (1 << Bits) - 1;
  const ValueRange range = value_range(x, 32);
  least = range.low != 0 ? range.low : *std::min_element(x, x + 32);  // the sign of a zero is kept
  d = (range.high - least) / static_cast<float>(top);
  const float inverse = d != 0 ? 1.0f / d : 0.0f;
  clamped_codes(
      x, 32, 0.0f, static_cast<float>(top),
      [inverse, from = least](auto v) { return rounded((v - from) * inverse) + 0.5f; }, codes);
}

/// Low four bits: codes j and j + 16 share a byte.
KDLIB_FUNC void pack_nibbles(const std::uint8_t* codes, std::uint8_t* q) {
  for (int j = 0; j < 16; ++j) q[j] = static_cast<std::uint8_t>((codes[j] & 15) | ((codes[j + 16] & 15) << 4));
}
KDLIB_FUNC void pack_fifth_bits(const std::uint8_t* codes, std::uint8_t* high) {
  std::uint32_t bits = 0;
  for (int j = 0; j < 32; ++j) bits |= static_cast<std::uint32_t>(codes[j] >> 4) << j;
  std::memcpy(high, &bits, 4);
}

template <int Bits>
void encode_symmetric_block(const float* x, std::uint8_t* b) {
  std::uint8_t codes[32];
  float d = 0;
  encode_symmetric<Bits>(x, d, codes);
  store_f16(b, d);
  if (Bits == 5) pack_fifth_bits(codes, b + 2);
  pack_nibbles(codes, b + (Bits == 5 ? 6 : 2));
}

template <int Bits>
void encode_affine_block(const float* x, std::uint8_t* b) {
  std::uint8_t codes[32];
  float d = 0, least = 0;
  encode_affine<Bits>(x, d, least, codes);
  store_f16(b, d);
  store_f16(b + 2, least);
  if (Bits == 5) pack_fifth_bits(codes, b + 4);
  pack_nibbles(codes, b + (Bits == 5 ? 8 : 4));
}

KDLIB_FUNC void encode_mxfp4(const float* x, std::uint8_t* b) {
  constexpr float values[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};  // twice E2M1
  const float largest = value_range(x, 32).magnitude();
  const int e = largest > 0 ? static_cast<int>(std::floor(std::log2(largest))) - 2 + 127 : 0;
  b[0] = static_cast<std::uint8_t>(std::clamp(e, 0, 254));
  const float scale = std::ldexp(1.0f, static_cast<int>(b[0]) - 128);  // a power of two: its products are exact
  std::uint8_t codes[32];
  for (int j = 0; j < 32; ++j) {
    codes[j] = 0;
    for (std::uint8_t c = 1; c < 16; ++c)
      if (std::fabs(values[c] * scale - x[j]) < std::fabs(values[codes[j]] * scale - x[j])) codes[j] = c;
  }
  pack_nibbles(codes, b + 1);
}

template <class S>
void encode_half(const float* x, std::uint8_t* b, std::size_t n, const char* name) {
  for (std::size_t i = 0; i < n; ++i) {
    const S value(x[i]);
    require<FormatError>(std::isfinite(static_cast<float>(value)), "[gguf] ", x[i],
                         " is not finite or beyond the range of ", name);
    const std::uint16_t bits = value.bits;
    std::memcpy(b + 2 * i, &bits, 2);
  }
}

template <std::size_t Bytes, class F>
void encode_blocks(const float* x, std::uint8_t* b, std::size_t n, F encode) {
  for (std::size_t i = 0; i < n; i += 32, b += Bytes) {
    for (std::size_t j = 0; j < 32; ++j)
      require<FormatError>(std::isfinite(x[i + j]), "[gguf] a value is ", x[i + j],
                           "; only finite ones can be quantised");
    encode(x + i, b);
  }
}

}  // namespace detail

KDLIB_FUNC bool can_encode(GgufType type) {
  for (const GgufType known : {GgufType::f32, GgufType::f16, GgufType::bf16, GgufType::q8_0, GgufType::q4_0,
                               GgufType::q4_1, GgufType::q5_0, GgufType::q5_1, GgufType::mxfp4})
    if (type == known) return true;
  return false;
}

KDLIB_FUNC GgufType gguf_type_from_name(std::string_view name) {
  std::string upper, known;
  for (const char c : name) upper += c >= 'a' && c <= 'z' ? static_cast<char>(c - 'a' + 'A') : c;
  for (std::uint32_t i = 0; i < detail::gguf_types_size; ++i) {
    const auto type = static_cast<GgufType>(i);
    if (detail::gguf_types[i].values == 0 || !can_encode(type)) continue;
    if (upper == gguf_type_name(type)) return type;
    known += concat(known.empty() ? "" : ", ", gguf_type_name(type));
  }
  fail<ConfigError>("[gguf] type \"", name, "\" is not written; it can be ", known);
}

KDLIB_FUNC void encode_row(GgufType type, const float* values, std::byte* blocks, std::size_t n) {
  using namespace detail;
  require<FormatError>(can_encode(type), "[gguf] ", gguf_type_name(type), " is not written");
  require<ShapeError>(n % block_size(type) == 0, "[gguf] ", n, " values are no whole number of ", gguf_type_name(type),
                      " blocks of ", block_size(type));
  auto* b = reinterpret_cast<std::uint8_t*>(blocks);
  switch (type) {
    case GgufType::f32:
      std::memcpy(b, values, n * sizeof(float));
      return;
    case GgufType::f16:
      return encode_half<f16>(values, b, n, "F16 (65504); choose F32 or BF16");
    case GgufType::bf16:
      return encode_half<bf16>(values, b, n, "BF16");
    case GgufType::q8_0:
      return encode_blocks<34>(values, b, n, encode_q8_0);
    case GgufType::q4_0:
      return encode_blocks<18>(values, b, n, encode_symmetric_block<4>);
    case GgufType::q4_1:
      return encode_blocks<20>(values, b, n, encode_affine_block<4>);
    case GgufType::q5_0:
      return encode_blocks<22>(values, b, n, encode_symmetric_block<5>);
    case GgufType::q5_1:
      return encode_blocks<24>(values, b, n, encode_affine_block<5>);
    case GgufType::mxfp4:
      return encode_blocks<17>(values, b, n, encode_mxfp4);
    default:
      return;
  }
}

KDLIB_NAMESPACE_END

#endif
