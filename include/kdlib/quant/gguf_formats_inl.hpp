// SPDX-License-Identifier: Apache-2.0
// Bodies of quant/gguf_blocks.hpp. One function a format; q points behind the scales. Products of a code (at most 6
// bits), a scale of 6 or 8 bits and a half (11 bits) have at most 24 bits: they are exact, so it does not matter to the
// bits whether the compiler fuses them with the sum that follows.
#ifndef KDLIB_QUANT_GGUF_FORMATS_INL_HPP
#define KDLIB_QUANT_GGUF_FORMATS_INL_HPP

#include <cstring>

#include "kdlib/core/error.hpp"
#include "kdlib/quant/gguf_blocks.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {

using Byte = std::uint8_t;

inline float load_f16(const Byte* at) {
  std::uint16_t bits = 0;
  std::memcpy(&bits, at, 2);
  return f16::from_bits(bits);
}
inline std::uint32_t load_u32(const Byte* at) {
  std::uint32_t bits = 0;
  std::memcpy(&bits, at, 4);
  return bits;
}

KDLIB_FUNC void decode_q8_0(const Byte* b, float* y) {
  const float d = load_f16(b);
  for (int j = 0; j < 32; ++j) y[j] = d * static_cast<float>(static_cast<std::int8_t>(b[2 + j]));
}

KDLIB_FUNC void decode_q4_0(const Byte* b, float* y) {
  const float d = load_f16(b);
  const Byte* q = b + 2;
  for (int j = 0; j < 16; ++j) {
    y[j] = static_cast<float>((q[j] & 15) - 8) * d;
    y[j + 16] = static_cast<float>((q[j] >> 4) - 8) * d;
  }
}

KDLIB_FUNC void decode_q4_1(const Byte* b, float* y) {
  const float d = load_f16(b), m = load_f16(b + 2);
  const Byte* q = b + 4;
  for (int j = 0; j < 16; ++j) {
    y[j] = static_cast<float>(q[j] & 15) * d + m;
    y[j + 16] = static_cast<float>(q[j] >> 4) * d + m;
  }
}

/// The fifth bit of element j, at its place in a code.
inline int fifth_bit(std::uint32_t high, int j) { return static_cast<int>((high >> j) & 1u) << 4; }

KDLIB_FUNC void decode_q5_0(const Byte* b, float* y) {
  const float d = load_f16(b);
  const std::uint32_t high = load_u32(b + 2);
  const Byte* q = b + 6;
  for (int j = 0; j < 16; ++j) {
    y[j] = static_cast<float>(((q[j] & 15) | fifth_bit(high, j)) - 16) * d;
    y[j + 16] = static_cast<float>(((q[j] >> 4) | fifth_bit(high, j + 16)) - 16) * d;
  }
}

KDLIB_FUNC void decode_q5_1(const Byte* b, float* y) {
  const float d = load_f16(b), m = load_f16(b + 2);
  const std::uint32_t high = load_u32(b + 4);
  const Byte* q = b + 8;
  for (int j = 0; j < 16; ++j) {
    y[j] = static_cast<float>((q[j] & 15) | fifth_bit(high, j)) * d + m;
    y[j + 16] = static_cast<float>((q[j] >> 4) | fifth_bit(high, j + 16)) * d + m;
  }
}

KDLIB_FUNC void decode_mxfp4(const Byte* b, float* y) {
  constexpr float values[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};  // twice E2M1
  // 2^(e - 128): the values are doubled, so the scale is halved; the two smallest are subnormal floats.
  const float scale = bits_float(b[0] < 2 ? 0x00200000u << b[0] : (std::uint32_t{b[0]} - 1u) << 23);
  const Byte* q = b + 1;
  for (int j = 0; j < 16; ++j) {
    y[j] = values[q[j] & 15] * scale;
    y[j + 16] = values[q[j] >> 4] * scale;
  }
}

/// Six-bit scale and minimum of sub-block j (0 to 7) of Q4_K and Q5_K.
KDLIB_FUNC void k_scale(const Byte* scales, int j, float& scale, float& minimum) {
  if (j < 4) {
    scale = static_cast<float>(scales[j] & 63);
    minimum = static_cast<float>(scales[j + 4] & 63);
  } else {
    scale = static_cast<float>((scales[j + 4] & 15) | ((scales[j - 4] >> 6) << 4));
    minimum = static_cast<float>((scales[j + 4] >> 4) | ((scales[j] >> 6) << 4));
  }
}

/// Q4_K (high == nullptr) and Q5_K: four chunks of 64 values; chunk c takes its fifth bits from bits 2c and 2c+1 of
/// `high`.
KDLIB_FUNC void decode_k(const Byte* b, const Byte* high, const Byte* q, float* y) {
  const float d = load_f16(b), d_min = load_f16(b + 2);
  for (int c = 0; c < 4; ++c, q += 32, y += 64) {
    for (int half = 0; half < 2; ++half) {
      float scale = 0, minimum = 0;
      k_scale(b + 4, 2 * c + half, scale, minimum);
      scale *= d;
      minimum *= d_min;
      for (int l = 0; l < 32; ++l) {
        int code = half == 0 ? q[l] & 15 : q[l] >> 4;
        if (high != nullptr) code |= ((high[l] >> (2 * c + half)) & 1) << 4;
        y[32 * half + l] = scale * static_cast<float>(code) - minimum;
      }
    }
  }
}

inline void decode_q4_k(const Byte* b, float* y) { decode_k(b, nullptr, b + 16, y); }
inline void decode_q5_k(const Byte* b, float* y) { decode_k(b, b + 16, b + 48, y); }

KDLIB_FUNC void decode_q6_k(const Byte* b, float* y) {
  const float d = load_f16(b + 208);
  for (int half = 0; half < 2; ++half, y += 128) {
    const Byte *low = b + 64 * half, *high = b + 128 + 32 * half, *scales = b + 192 + 8 * half;
    for (int part = 0; part < 4; ++part) {
      for (int l = 0; l < 32; ++l) {
        const Byte nibbles = low[l + 32 * (part & 1)];
        const int code = (part < 2 ? nibbles & 15 : nibbles >> 4) | (((high[l] >> (2 * part)) & 3) << 4);
        const float scale = d * static_cast<float>(static_cast<std::int8_t>(scales[l / 16 + 2 * part]));
        y[32 * part + l] = scale * static_cast<float>(code - 32);
      }
    }
  }
}

template <class T>
void decode_plain(const Byte* b, float* out, std::size_t n) {
  for (std::size_t i = 0; i < n; ++i) {
    T x;
    std::memcpy(&x, b + i * sizeof(T), sizeof x);
    out[i] = static_cast<float>(x);
  }
}

template <std::size_t Values, std::size_t Bytes, class F>
void decode_blocks(const Byte* b, float* out, std::size_t n, F decode) {
  for (std::size_t i = 0; i < n; i += Values, b += Bytes) decode(b, out + i);
}

}  // namespace detail

KDLIB_FUNC bool can_decode(GgufType type) {
  return block_size(type) != 0 && type != GgufType::q2_k && type != GgufType::q3_k;
}

KDLIB_FUNC void decode_row(GgufType type, const std::byte* blocks, float* out, std::size_t n) {
  using namespace detail;
  require<FormatError>(can_decode(type), "[gguf] ", gguf_type_name(type),
                       " is not decoded; convert the model to Q4_K, Q8_0, F16 or another type that is");
  require<ShapeError>(n % block_size(type) == 0, "[gguf] ", n, " values of ", gguf_type_name(type),
                      " are no whole number of blocks of ", block_size(type));
  const auto* b = reinterpret_cast<const Byte*>(blocks);
  switch (type) {
    case GgufType::f32:
      return decode_plain<float>(b, out, n);
    case GgufType::f64:
      return decode_plain<double>(b, out, n);
    case GgufType::f16:
      return decode_plain<f16>(b, out, n);
    case GgufType::bf16:
      return decode_plain<bf16>(b, out, n);
    case GgufType::i8:
      return decode_plain<std::int8_t>(b, out, n);
    case GgufType::i16:
      return decode_plain<std::int16_t>(b, out, n);
    case GgufType::i32:
      return decode_plain<std::int32_t>(b, out, n);
    case GgufType::i64:
      return decode_plain<std::int64_t>(b, out, n);
    case GgufType::q8_0:
      return decode_blocks<32, 34>(b, out, n, decode_q8_0);
    case GgufType::q4_0:
      return decode_blocks<32, 18>(b, out, n, decode_q4_0);
    case GgufType::q4_1:
      return decode_blocks<32, 20>(b, out, n, decode_q4_1);
    case GgufType::q5_0:
      return decode_blocks<32, 22>(b, out, n, decode_q5_0);
    case GgufType::q5_1:
      return decode_blocks<32, 24>(b, out, n, decode_q5_1);
    case GgufType::q4_k:
      return decode_blocks<256, 144>(b, out, n, decode_q4_k);
    case GgufType::q5_k:
      return decode_blocks<256, 176>(b, out, n, decode_q5_k);
    case GgufType::q6_k:
      return decode_blocks<256, 210>(b, out, n, decode_q6_k);
    case GgufType::mxfp4:
      return decode_blocks<32, 17>(b, out, n, decode_mxfp4);
    case GgufType::q2_k:
    case GgufType::q3_k:
      break;
  }
}

KDLIB_NAMESPACE_END

#endif
