// SPDX-License-Identifier: Apache-2.0
// The part of vector_body_inl.hpp that reads weights in the formats of files, 32 values at a time: included by it
// inside its namespaces, once for each instruction set, hence no include guard. Formats: quant/gguf_blocks_inl.hpp says
// them in plain loops.
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

/// The sums of one row of the weight with M rows of x, of R such rows. Nested members, not arrays: they must stay in
/// registers.
template <int M>
struct StoredRow {
  V<float> sum{};
  StoredRow<M - 1> rest;
};
template <>
struct StoredRow<0> {};
template <int R, int M>
struct StoredSums {
  StoredRow<M> row;
  __m128 low = __m128{};  // M = 1, lane 1: minimum times sum of x
  StoredSums<R - 1, M> rest;
};
template <int M>
struct StoredSums<0, M> {};

/// Rows of x at `stride`; pairs: 0 and the sum of x, for every 32 values of the row that goes alone.
struct StoredInput {
  const float* at;
  std::int64_t stride;
  const float* pairs;
};

template <int M>
KDLIB_LANE void stored_columns(StoredRow<M>& s, const Codes32& w, const float* x, std::int64_t stride) {
  if constexpr (M > 0) {
    constexpr std::int64_t lanes = Pack<float>::lanes;
    s.sum += w.a * load(x);
    s.sum += w.b * load(x + lanes);
#if KDLIB_VECTOR_BYTES == 32
    s.sum += w.c * load(x + 2 * lanes);
    s.sum += w.d * load(x + 3 * lanes);
#endif
    stored_columns<M - 1>(s.rest, w, x + stride, stride);
  }
}
/// code * scale + minimum.
template <class F>
KDLIB_LANE void scale_codes(Codes32& w, __m128 scales) {
  if constexpr (!F::scaled) return;
  const V<float> first = broadcast_low(scales),
                 low = F::minimum ? broadcast_low(_mm_shuffle_ps(scales, scales, 1)) : V<float>{};
  const V<float> second = F::two_scales ? broadcast_low(_mm_movehl_ps(scales, scales)) : first;
#if KDLIB_VECTOR_BYTES == 64
  w.a = w.a * first + low, w.b = w.b * second + low;
#else
  w.a = w.a * first + low, w.b = w.b * first + low, w.c = w.c * second + low, w.d = w.d * second + low;
#endif
}

template <class F, int R, int M>
KDLIB_LANE void stored_step(StoredSums<R, M>& s, const StoredByte* const* row, const StoredByte* const* scale,
                            std::int64_t block, int j, const StoredInput& x) {
  if constexpr (R > 0) {
    const StoredByte* b = *row + block * F::bytes;
    Codes32 w = F::codes(b, j);
    if constexpr (M > 1) {  // the weights themselves, for all rows of x
      scale_codes<F>(w, F::scales(b, *scale + block, j));
      stored_columns<M>(s.row, w, x.at, x.stride);
    } else if constexpr (!F::scaled) {
      s.row.sum += against(w, x.at);
    } else {  // scale and minimum once for 32 products
      const __m128 scales = F::scales(b, *scale + block, j);
      if constexpr (F::two_scales)
        s.row.sum += against(w, x.at, broadcast_low(scales), broadcast_low(_mm_movehl_ps(scales, scales)));
      else s.row.sum += against(w, x.at) * broadcast_low(scales);
      if constexpr (F::minimum)
        s.low += scales * _mm_castsi128_ps(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(x.pairs)));
    }
    stored_step<F, R - 1, M>(s.rest, row + 1, scale + 1, block, j, x);
  }
}
template <int M>
KDLIB_LANE void put_row(const StoredRow<M>& s, float low, float* out) {
  if constexpr (M > 0) {
    V<float> v = s.sum;
    rounded(v);  // hides the copy: reading parts of the member would keep all sums in memory
    *out = sum<float>(v) + low;
    put_row<M - 1>(s.rest, 0.0f, out + 1);
  }
}
template <int R, int M>
KDLIB_LANE void put_rows(const StoredSums<R, M>& s, float* out) {
  if constexpr (R > 0) {
    const __m128 low = s.low;
    put_row<M>(s.row, low[1], out);
    put_rows<R - 1, M>(s.rest, out + M);
  }
}

constexpr int stored_group = 4;  // rows of the weight that share what is loaded of x

/// out[stored_group][M]: rows of the weight against M rows of x.
template <class F, int M>
KDLIB_LANE void stored_tile(const StoredByte* const* row, const StoredByte* const* scale, const StoredByte* ahead,
                            std::int64_t k, StoredInput x, float* out) {
  StoredSums<stored_group, M> s;
  for (std::int64_t block = 0; block * 32 * F::units < k; ++block) {
    for (int line = 0; ahead != nullptr && line < stored_group * F::bytes; line += 64)
      _mm_prefetch(reinterpret_cast<const char*>(ahead + block * stored_group * F::bytes + line), _MM_HINT_T0);
#pragma GCC unroll 8
    for (int j = 0; j < F::units; ++j) {
      stored_step<F, stored_group, M>(s, row, scale, block, j, x);
      x.at += 32;
      x.pairs += 2;
    }
  }
  put_rows<stored_group, M>(s, out);
}

/// The scales of a row that lie apart; types that have none get a place that is never read.
KDLIB_LANE const StoredByte* stored_scales(const StoredRanges& w, std::int64_t r) {
  return w.scale_parts == nullptr ? w.row(r) : w.row_scales(r);
}

/// y[m, count] (leading dimension ldy) = x W[begin, begin + count)^T + beta * y, m rows of x: four, two or one at a
/// time meet four rows of W.
template <class F>
KDLIB_LOOP void stored_rows_dots(const StoredRanges& w, std::int64_t begin, std::int64_t count, std::int64_t m,
                                 const StoredInput& x, float beta, float* y, std::int64_t ldy) {
  const StoredByte *row[stored_group], *scale[stored_group];
  float out[stored_group * 4];
  for (std::int64_t r = 0; r < count; r += stored_group) {
    for (std::int64_t i = 0; i < stored_group; ++i) {  // past the end: the last row again
      const std::int64_t at = begin + (r + i < count ? r + i : count - 1);
      row[i] = w.row(at), scale[i] = stored_scales(w, at);
    }
    const StoredByte* ahead =
        row[0] + 2 * stored_group * w.row_bytes();  // the group after the next: asking evenly keeps the memory busy
    for (std::int64_t i = 0; i < m; ahead = nullptr) {
      const std::int64_t n = m - i >= 4 ? 4 : (m - i >= 2 ? 2 : 1);
      const StoredInput part{x.at + i * x.stride, x.stride, x.pairs};
      if (n == 1) stored_tile<F, 1>(row, scale, ahead, w.columns, part, out);
      else if (n == 2) stored_tile<F, 2>(row, scale, ahead, w.columns, part, out);
      else stored_tile<F, 4>(row, scale, ahead, w.columns, part, out);
      for (std::int64_t c = 0; c < stored_group && r + c < count; ++c)
        for (std::int64_t t = 0; t < n; ++t) {
          float& to = y[(i + t) * ldy + r + c];
          to = out[c * n + t] + (beta == 0.0f ? 0.0f : beta * to);
        }
      i += n;
    }
  }
}

template <class F>
KDLIB_LOOP void stored_rows_decode(const StoredRanges& w, std::int64_t begin, std::int64_t count, float* out) {
  const std::int64_t ahead = count * w.row_bytes();  // the rows that are decoded next, as a rule
  for (std::int64_t r = begin; r < begin + count; ++r) {
    const StoredByte *b = w.row(r), *scale = stored_scales(w, r);
    for (std::int64_t block = 0; block * 32 * F::units < w.columns; ++block, b += F::bytes) {
      for (int line = 0; line < F::bytes; line += 64)
        _mm_prefetch(reinterpret_cast<const char*>(b + ahead + line), _MM_HINT_T0);
#pragma GCC unroll 8
      for (int j = 0; j < F::units; ++j, out += 32) {
        const __m128 s = F::scales(b, scale + block, j);
        const V<float> first = broadcast_low(s);
        put_codes<F::minimum>(F::codes(b, j), first, F::two_scales ? broadcast_low(_mm_movehl_ps(s, s)) : first,
                              F::minimum ? broadcast_low(_mm_shuffle_ps(s, s, 1)) : V<float>{}, out);
      }
    }
  }
}

/// Calls f with the format of the weight; false: there is no vector code for it.
template <class Call>
KDLIB_LANE bool with_stored_format(const StoredRanges& w, Call call) {
  if (w.columns % 32 != 0) return false;
  if (w.scale_parts != nullptr) return call(StoredMxfp4Apart()), true;
  switch (w.type) {
    case GgufType::f32:
      return call(StoredF32()), true;
    case GgufType::f16:
      return call(StoredF16()), true;
    case GgufType::bf16:
      return call(StoredBf16()), true;
    case GgufType::q8_0:
      return call(StoredQ8_0()), true;
    case GgufType::q4_0:
      return call(StoredQ4_0()), true;
    case GgufType::q4_1:
      return call(StoredQ4_1()), true;
    case GgufType::q5_0:
      return call(StoredQ5_0()), true;
    case GgufType::q5_1:
      return call(StoredQ5_1()), true;
    case GgufType::q4_k:
      return call(StoredQ4_K()), true;
    case GgufType::q5_k:
      return call(StoredQ5_K()), true;
    case GgufType::q6_k:
      return call(StoredQ6_K()), true;
    case GgufType::mxfp4:
      return call(StoredMxfp4()), true;
    default:
      return false;
  }
}

/// out[count, columns] = rows from `begin`; done = false where this format has no vector code.
KDLIB_LOOP void decode_stored(const StoredRanges& w, std::int64_t begin, std::int64_t count, float* out, bool& done) {
  done = with_stored_format(w, [&](auto format) { stored_rows_decode<decltype(format)>(w, begin, count, out); });
}
/// Products straight from the blocks; see stored_rows_dots.
KDLIB_LOOP void dot_stored(const StoredRanges& w, std::int64_t begin, std::int64_t count, std::int64_t m,
                           const float* x, const float* pairs, float beta, float* y, std::int64_t ldy, bool& done) {
  const StoredInput input{x, w.columns, pairs};
  done = with_stored_format(
      w, [&](auto format) { stored_rows_dots<decltype(format)>(w, begin, count, m, input, beta, y, ldy); });
}

#else

inline void decode_stored(const StoredRanges&, std::int64_t, std::int64_t, float*, bool& done) { done = false; }
inline void dot_stored(const StoredRanges&, std::int64_t, std::int64_t, std::int64_t, const float*, const float*, float,
                       float*, std::int64_t, bool& done) {
  done = false;
}

#endif
#endif
