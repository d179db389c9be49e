// SPDX-License-Identifier: Apache-2.0
// The part of vector_body_inl.hpp that turns 32 stored codes and their scales into numbers: included by it inside its
// namespaces, once for each instruction set, hence no include guard. Formats: quant/gguf_blocks_inl.hpp says them in
// plain loops; what is done with them is in vector_stored_body_inl.hpp.
#ifdef KDLIB_VECTOR_SPACE
#if KDLIB_VECTOR_BYTES >= 32

using StoredByte = std::uint8_t;

/// 32 codes of a row as numbers, in order.
struct Codes32 {
#if KDLIB_VECTOR_BYTES == 64
  V<float> a, b;
#else
  V<float> a, b, c, d;
#endif
};

KDLIB_LANE __m128i bytes_at(const StoredByte* p) { return _mm_loadu_si128(reinterpret_cast<const __m128i*>(p)); }
KDLIB_LANE __m128i low_nibbles(__m128i q) { return _mm_and_si128(q, _mm_set1_epi8(15)); }
KDLIB_LANE __m128i high_nibbles(__m128i q) { return _mm_and_si128(_mm_srli_epi16(q, 4), _mm_set1_epi8(15)); }

#if KDLIB_VECTOR_BYTES == 64
constexpr __mmask16 every_lane = 0xFFFF;  // the forms without a mask make g++ 12 warn of an uninitialised value
KDLIB_LANE V<float> signed_bytes(__m128i q) {
  return _mm512_maskz_cvtepi32_ps(every_lane, _mm512_maskz_cvtepi8_epi32(every_lane, q));
}
/// Values 0 to 15 in the signed bytes of `first`, 16 to 31 in `second`.
KDLIB_LANE Codes32 from_bytes(__m128i first, __m128i second) { return {signed_bytes(first), signed_bytes(second)}; }
/// table[code] for codes of four bits: the look-up reads the low four bits of a lane.
KDLIB_LANE Codes32 from_table(__m128i q, __m512 table) {
  const __m512i words = _mm512_maskz_cvtepu8_epi32(every_lane, q);
  return {_mm512_maskz_permutexvar_ps(every_lane, words, table),
          _mm512_maskz_permutexvar_ps(every_lane, _mm512_maskz_srli_epi32(every_lane, words, 4), table)};
}
KDLIB_LANE Codes32 nibbles_minus(__m128i q, float shift) {
  return from_table(q, _mm512_set_ps(15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0) - splat(shift));
}
KDLIB_LANE __m512 mxfp4_table() { return _mm512_set_ps(-12, -8, -6, -4, -3, -2, -1, 0, 12, 8, 6, 4, 3, 2, 1, 0); }
KDLIB_LANE Codes32 mxfp4_codes(__m128i q) { return from_table(q, mxfp4_table()); }
KDLIB_LANE Codes32 mxfp4_pairs(__m128i q) {
  const __m128i low = low_nibbles(q), high = high_nibbles(q);
  return {_mm512_maskz_permutexvar_ps(every_lane, _mm512_maskz_cvtepu8_epi32(every_lane, _mm_unpacklo_epi8(low, high)),
                                      mxfp4_table()),
          _mm512_maskz_permutexvar_ps(every_lane, _mm512_maskz_cvtepu8_epi32(every_lane, _mm_unpackhi_epi8(low, high)),
                                      mxfp4_table())};
}
KDLIB_LANE V<float> halves_at(const StoredByte* p) {
  return _mm512_maskz_cvtph_ps(every_lane, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
KDLIB_LANE V<float> bf16s_at(const StoredByte* p) {
  return _mm512_castsi512_ps(_mm512_maskz_slli_epi32(
      every_lane, _mm512_maskz_cvtepu16_epi32(every_lane, _mm256_loadu_si256(reinterpret_cast<const __m256i*>(p))),
      16));
}
KDLIB_LANE V<float> floats_at(const StoredByte* p) { return _mm512_loadu_ps(p); }
KDLIB_LANE V<float> broadcast_low(__m128 s) { return _mm512_maskz_broadcastss_ps(every_lane, s); }
KDLIB_LANE V<float> against(const Codes32& w, const float* x) { return w.a * load(x) + w.b * load(x + 16); }
/// The same with a scale for the first 16 values and one for the others.
KDLIB_LANE V<float> against(const Codes32& w, const float* x, V<float> first, V<float> second) {
  return w.a * load(x) * first + w.b * load(x + 16) * second;
}
#else
KDLIB_LANE V<float> signed_bytes(__m128i q) { return _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(q)); }
KDLIB_LANE Codes32 from_bytes(__m128i first, __m128i second) {
  return {signed_bytes(first), signed_bytes(_mm_unpackhi_epi64(first, first)), signed_bytes(second),
          signed_bytes(_mm_unpackhi_epi64(second, second))};
}
KDLIB_LANE Codes32 nibbles_minus(__m128i q, int shift) {
  const __m128i s = _mm_set1_epi8(static_cast<char>(shift));
  return from_bytes(_mm_sub_epi8(low_nibbles(q), s), _mm_sub_epi8(high_nibbles(q), s));
}
KDLIB_LANE __m128i mxfp4_table() { return _mm_set_epi8(-12, -8, -6, -4, -3, -2, -1, 0, 12, 8, 6, 4, 3, 2, 1, 0); }
KDLIB_LANE Codes32 mxfp4_codes(__m128i q) {
  return from_bytes(_mm_shuffle_epi8(mxfp4_table(), low_nibbles(q)), _mm_shuffle_epi8(mxfp4_table(), high_nibbles(q)));
}
KDLIB_LANE Codes32 mxfp4_pairs(__m128i q) {
  const __m128i low = _mm_shuffle_epi8(mxfp4_table(), low_nibbles(q)),
                high = _mm_shuffle_epi8(mxfp4_table(), high_nibbles(q));
  return from_bytes(_mm_unpacklo_epi8(low, high), _mm_unpackhi_epi8(low, high));
}
KDLIB_LANE V<float> halves_at(const StoredByte* p) { return _mm256_cvtph_ps(bytes_at(p)); }
KDLIB_LANE V<float> bf16s_at(const StoredByte* p) {
  return _mm256_castsi256_ps(_mm256_slli_epi32(_mm256_cvtepu16_epi32(bytes_at(p)), 16));
}
KDLIB_LANE V<float> floats_at(const StoredByte* p) {
  return _mm256_castsi256_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(p)));
}
KDLIB_LANE V<float> broadcast_low(__m128 s) { return _mm256_broadcastss_ps(s); }
KDLIB_LANE V<float> against(const Codes32& w, const float* x) {
  return (w.a * load(x) + w.b * load(x + 8)) + (w.c * load(x + 16) + w.d * load(x + 24));
}
KDLIB_LANE V<float> against(const Codes32& w, const float* x, V<float> first, V<float> second) {
  return (w.a * load(x) + w.b * load(x + 8)) * first + (w.c * load(x + 16) + w.d * load(x + 24)) * second;
}
#endif

/// out = code * scale, plus `low` where the format has a minimum: adding 0 would take the sign of a zero away.
template <bool Minimum>
KDLIB_LANE void put_scaled(V<float> code, V<float> scale, V<float> low, float* out) {
  V<float> v = code * scale;
  if constexpr (Minimum) {
    rounded(v);
    v += low;
  }
  store<float>(out, v);
}
template <bool Minimum>
KDLIB_LANE void put_codes(const Codes32& w, V<float> first, V<float> second, V<float> low, float* out) {
  constexpr std::int64_t lanes = Pack<float>::lanes;
  put_scaled<Minimum>(w.a, first, low, out);
#if KDLIB_VECTOR_BYTES == 64
  put_scaled<Minimum>(w.b, second, low, out + lanes);
#else
  put_scaled<Minimum>(w.b, first, low, out + lanes);
  put_scaled<Minimum>(w.c, second, low, out + 2 * lanes);
  put_scaled<Minimum>(w.d, second, low, out + 3 * lanes);
#endif
}

/// One or two halves at p as floats in the low lanes, the others 0.
KDLIB_LANE __m128 one_half(const StoredByte* p) {
  std::uint16_t bits;
  __builtin_memcpy(&bits, p, 2);
  return _mm_cvtph_ps(_mm_cvtsi32_si128(bits));
}
KDLIB_LANE __m128 two_halves(const StoredByte* p) {
  std::int32_t bits;
  __builtin_memcpy(&bits, p, 4);
  return _mm_cvtph_ps(_mm_cvtsi32_si128(bits));
}
/// 2^(e - 128), for codes that are doubled; the two smallest are subnormal.
KDLIB_LANE __m128 half_power(StoredByte e) {
  return _mm_castsi128_ps(
      _mm_cvtsi32_si128(static_cast<int>(e < 2 ? 0x00200000u << e : (std::uint32_t{e} - 1u) << 23)));
}
/// 16 in each byte whose bit of `bits` is set.
KDLIB_LANE __m128i fifth_bits(std::uint32_t bits) {
  const __m128i spread = _mm_shuffle_epi8(_mm_set1_epi32(static_cast<int>(bits)),
                                          _mm_set_epi8(1, 1, 1, 1, 1, 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0));
  const __m128i each = _mm_set1_epi64x(static_cast<long long>(0x8040201008040201ull));
  return _mm_and_si128(_mm_cmpeq_epi8(_mm_and_si128(spread, each), each), _mm_set1_epi8(16));
}

/// A format: `units` runs of 32 values in a block of `bytes`; value = code * scale (+ minimum). scales(): lane 0 the
/// scale, lane 1 the minimum, lane 2 the scale of the second 16 values where `two_scales`. `s` points to scales that
/// lie apart.
template <bool Scaled, bool Minimum, int Units, int Bytes>
struct StoredFormat {
  static constexpr bool scaled = Scaled, minimum = Minimum, two_scales = false;
  static constexpr int units = Units, bytes = Bytes;
};
struct PlainFormat : StoredFormat<false, false, 1, 0> {
  KDLIB_LANE static __m128 scales(const StoredByte*, const StoredByte*, int) { return _mm_set_ss(1.0f); }
};
#if KDLIB_VECTOR_BYTES == 64
#define KDLIB_CODES32(at, bytes_each) \
  { at(b), at(b + 16 * (bytes_each)) }
#else
#define KDLIB_CODES32(at, bytes_each) \
  { at(b), at(b + 8 * (bytes_each)), at(b + 16 * (bytes_each)), at(b + 24 * (bytes_each)) }
#endif
struct StoredF32 : PlainFormat {
  static constexpr int bytes = 128;
  KDLIB_LANE static Codes32 codes(const StoredByte* b, int) { return KDLIB_CODES32(floats_at, 4); }
};
struct StoredF16 : PlainFormat {
  static constexpr int bytes = 64;
  KDLIB_LANE static Codes32 codes(const StoredByte* b, int) { return KDLIB_CODES32(halves_at, 2); }
};
struct StoredBf16 : PlainFormat {
  static constexpr int bytes = 64;
  KDLIB_LANE static Codes32 codes(const StoredByte* b, int) { return KDLIB_CODES32(bf16s_at, 2); }
};
#undef KDLIB_CODES32
struct StoredQ8_0 : StoredFormat<true, false, 1, 34> {
  KDLIB_LANE static Codes32 codes(const StoredByte* b, int) { return from_bytes(bytes_at(b + 2), bytes_at(b + 18)); }
  KDLIB_LANE static __m128 scales(const StoredByte* b, const StoredByte*, int) { return one_half(b); }
};
struct StoredQ4_0 : StoredFormat<true, false, 1, 18> {
  KDLIB_LANE static Codes32 codes(const StoredByte* b, int) { return nibbles_minus(bytes_at(b + 2), 8); }
  KDLIB_LANE static __m128 scales(const StoredByte* b, const StoredByte*, int) { return one_half(b); }
};
struct StoredQ4_1 : StoredFormat<true, true, 1, 20> {
  KDLIB_LANE static Codes32 codes(const StoredByte* b, int) { return nibbles_minus(bytes_at(b + 4), 0); }
  KDLIB_LANE static __m128 scales(const StoredByte* b, const StoredByte*, int) { return two_halves(b); }
};
KDLIB_LANE Codes32 five_bits(const StoredByte* high, const StoredByte* q, int shift) {
  std::uint32_t bits;
  __builtin_memcpy(&bits, high, 4);
  const __m128i codes = bytes_at(q), s = _mm_set1_epi8(static_cast<char>(shift));
  return from_bytes(_mm_sub_epi8(_mm_or_si128(low_nibbles(codes), fifth_bits(bits)), s),
                    _mm_sub_epi8(_mm_or_si128(high_nibbles(codes), fifth_bits(bits >> 16)), s));
}
struct StoredQ5_0 : StoredFormat<true, false, 1, 22> {
  KDLIB_LANE static Codes32 codes(const StoredByte* b, int) { return five_bits(b + 2, b + 6, 16); }
  KDLIB_LANE static __m128 scales(const StoredByte* b, const StoredByte*, int) { return one_half(b); }
};
struct StoredQ5_1 : StoredFormat<true, true, 1, 24> {
  KDLIB_LANE static Codes32 codes(const StoredByte* b, int) { return five_bits(b + 4, b + 8, 0); }
  KDLIB_LANE static __m128 scales(const StoredByte* b, const StoredByte*, int) { return two_halves(b); }
};
struct StoredMxfp4 : StoredFormat<true, false, 1, 17> {
  KDLIB_LANE static Codes32 codes(const StoredByte* b, int) { return mxfp4_codes(bytes_at(b + 1)); }
  KDLIB_LANE static __m128 scales(const StoredByte* b, const StoredByte*, int) { return half_power(b[0]); }
};
/// Codes and scales in two tensors (safetensors).
struct StoredMxfp4Apart : StoredFormat<true, false, 1, 16> {
  KDLIB_LANE static Codes32 codes(const StoredByte* b, int) { return mxfp4_pairs(bytes_at(b)); }
  KDLIB_LANE static __m128 scales(const StoredByte*, const StoredByte* s, int) { return half_power(*s); }
};
/// Six-bit scale and minimum of run j of Q4_K and Q5_K, times the block's.
KDLIB_LANE __m128 k_scales(const StoredByte* b, int j) {
  const StoredByte* s = b + 4;
  const int scale = j < 4 ? s[j] & 63 : (s[j + 4] & 15) | ((s[j - 4] >> 6) << 4),
            minimum = j < 4 ? s[j + 4] & 63 : (s[j + 4] >> 4) | ((s[j] >> 6) << 4);
  const __m128 d = two_halves(b);
  return _mm_mul_ps(d, _mm_setr_ps(static_cast<float>(scale), -static_cast<float>(minimum), 0, 0));
}
struct StoredQ4_K : StoredFormat<true, true, 8, 144> {
  KDLIB_LANE static Codes32 codes(const StoredByte* b, int j) {
    const __m128i first = bytes_at(b + 16 + j / 2 * 32), second = bytes_at(b + 32 + j / 2 * 32);
    return j % 2 == 0 ? from_bytes(low_nibbles(first), low_nibbles(second))
                      : from_bytes(high_nibbles(first), high_nibbles(second));
  }
  KDLIB_LANE static __m128 scales(const StoredByte* b, const StoredByte*, int j) { return k_scales(b, j); }
};
struct StoredQ5_K : StoredFormat<true, true, 8, 176> {
  KDLIB_LANE static __m128i high(const StoredByte* p, int j) {
    const __m128i bit = _mm_set1_epi8(static_cast<char>(1 << j));
    return _mm_and_si128(_mm_cmpeq_epi8(_mm_and_si128(bytes_at(p), bit), bit), _mm_set1_epi8(16));
  }
  KDLIB_LANE static Codes32 codes(const StoredByte* b, int j) {
    const __m128i first = bytes_at(b + 48 + j / 2 * 32), second = bytes_at(b + 64 + j / 2 * 32);
    return from_bytes(_mm_or_si128(j % 2 == 0 ? low_nibbles(first) : high_nibbles(first), high(b + 16, j)),
                      _mm_or_si128(j % 2 == 0 ? low_nibbles(second) : high_nibbles(second), high(b + 32, j)));
  }
  KDLIB_LANE static __m128 scales(const StoredByte* b, const StoredByte*, int j) { return k_scales(b, j); }
};
struct StoredQ6_K : StoredFormat<true, false, 8, 210> {
  static constexpr bool two_scales = true;
  KDLIB_LANE static __m128i part(const StoredByte* low, const StoredByte* high, int p) {
    const __m128i nibbles = p < 2 ? low_nibbles(bytes_at(low)) : high_nibbles(bytes_at(low));
    const __m128i top = _mm_slli_epi16(_mm_and_si128(_mm_srli_epi16(bytes_at(high), 2 * p), _mm_set1_epi8(3)), 4);
    return _mm_sub_epi8(_mm_or_si128(nibbles, top), _mm_set1_epi8(32));
  }
  KDLIB_LANE static Codes32 codes(const StoredByte* b, int j) {
    const StoredByte *low = b + 64 * (j / 4) + 32 * (j % 2), *high = b + 128 + 32 * (j / 4);
    return from_bytes(part(low, high, j % 4), part(low + 16, high + 16, j % 4));
  }
  KDLIB_LANE static __m128 scales(const StoredByte* b, const StoredByte*, int j) {
    const StoredByte* s = b + 192 + 2 * j;
    const float d = _mm_cvtss_f32(one_half(b + 208));
    return _mm_setr_ps(d * static_cast<float>(static_cast<std::int8_t>(s[0])), 0,
                       d * static_cast<float>(static_cast<std::int8_t>(s[1])), 0);
  }
};

#endif
#endif
