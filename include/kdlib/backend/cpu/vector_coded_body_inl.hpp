// SPDX-License-Identifier: Apache-2.0
// The part of vector_body_inl.hpp that decodes weights kept as codes: included by it inside its namespaces, once for
// each instruction set, hence no include guard.
#ifdef KDLIB_VECTOR_SPACE

/// The bits of the float 2^(s - 127), of a number or a vector; 2^-127 is subnormal.
template <class Bits>
KDLIB_LANE Bits exponent_bits(Bits s) {
  return s == 0u ? 0x00400000u - Bits{} : s << 23;
}

/// The scale of group i.
KDLIB_LANE float coded_scale(const CodedRanges& w, std::int64_t i) {
  if (w.scale != nullptr) return w.scale[i];
  if (w.nested_map != nullptr) {
    float product = w.nested_map[w.small_scale[i]] * w.nested_scale[i / 256];
    rounded(product);
    return product + w.nested_offset;
  }
  const std::uint32_t bits = exponent_bits<std::uint32_t>(w.small_scale[i]);
  float value;
  __builtin_memcpy(&value, &bits, sizeof value);
  return value;
}

/// What turns codes of one group into values.
struct CodedGroup {
  float scale = 0, before = 0, after = 0;  // value = (level - before) * scale + after
};
KDLIB_LANE CodedGroup coded_group(const CodedRanges& w, std::int64_t i) {
  CodedGroup g;
  g.scale = coded_scale(w, i);
  if (w.zero != nullptr) (w.shifted ? g.before : g.after) = w.zero[i];
  return g;
}
template <class X>
KDLIB_LANE X coded_value(X level, const CodedGroup& g) {
  X x = (level - g.before) * g.scale;
  rounded(x);
  return x + g.after;
}

/// Code of column c of a row.
template <int Bits>
KDLIB_LANE std::uint32_t code_at(const std::uint8_t* row, std::int64_t c) {
  if constexpr (Bits == 8) return row[c];
  const std::int64_t bit = c % 8 * Bits;
  const std::uint8_t* p = row + c / 8 * Bits + bit / 8;
  const std::uint32_t word = bit % 8 + Bits > 8 ? p[0] | static_cast<std::uint32_t>(p[1]) << 8 : p[0];
  return word >> (bit % 8) & ((1u << Bits) - 1);
}
template <int Bits>
KDLIB_LANE float level_at(const CodedRanges& w, const std::uint8_t* row, std::int64_t c) {
  if constexpr (Bits == 8) return static_cast<float>(static_cast<std::int8_t>(row[c]));
  else return w.levels[code_at<Bits>(row, c)];
}

#if KDLIB_VECTOR_BYTES >= 32
/// Values by code of four bits (three bits: the fourth is anything), looked up by the low four bits of each lane.
#if KDLIB_VECTOR_BYTES == 64
struct LevelTable {
  __m512 all;
};
KDLIB_LANE LevelTable level_table(const float* levels) { return {load(levels)}; }
KDLIB_LANE LevelTable level_table(const LevelTable& t, const CodedGroup& g) {
  return {coded_value<V<float>>(t.all, g)};
}
KDLIB_LANE V<float> look_up(const LevelTable& t, __m512i words) {
  const __mmask16 every = 0xFFFF;  // the form without a mask makes g++ 12 warn of an uninitialised value
  return _mm512_maskz_permutexvar_ps(every, words, t.all);
}
#else
struct LevelTable {
  __m256 low, high;
};
KDLIB_LANE LevelTable level_table(const float* levels) { return {load(levels), load(levels + 8)}; }
KDLIB_LANE LevelTable level_table(const LevelTable& t, const CodedGroup& g) {
  return {coded_value<V<float>>(t.low, g), coded_value<V<float>>(t.high, g)};
}
KDLIB_LANE V<float> look_up(const LevelTable& t, __m256i words) {
  const __m256 upper = _mm256_castsi256_ps(_mm256_slli_epi32(words, 28));  // bit 3 as the sign
  return _mm256_blendv_ps(_mm256_permutevar8x32_ps(t.low, words), _mm256_permutevar8x32_ps(t.high, words), upper);
}
#endif

/// Eight codes of three or four bits, from a whole word on, one a lane in the low bits.
template <int Bits>
KDLIB_LANE __m256i spread_codes(const std::uint8_t* p) {
  std::int32_t word = 0;
  __builtin_memcpy(&word, p, Bits);
  return _mm256_srlv_epi32(_mm256_set1_epi32(word),
                           _mm256_setr_epi32(0, Bits, 2 * Bits, 3 * Bits, 4 * Bits, 5 * Bits, 6 * Bits, 7 * Bits));
}

/// Columns [c, end) of a row in one group, c a multiple of 8; answers how many were decoded, a multiple of the lanes.
template <int Bits>
KDLIB_LANE std::int64_t decode_packs(const LevelTable& levels, const std::uint8_t* row, std::int64_t c,
                                     std::int64_t end, const CodedGroup& g, float* out) {
  std::int64_t i = 0;
  if constexpr (Bits == 8) {
    for (; c + i + 8 <= end; i += 8) {
      std::int64_t word;
      __builtin_memcpy(&word, row + c + i, 8);
      __m256 x = _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_cvtsi64_si128(word)));
      x = _mm256_mul_ps(_mm256_sub_ps(x, _mm256_set1_ps(g.before)), _mm256_set1_ps(g.scale));
      rounded(x);
      _mm256_storeu_ps(out + i, _mm256_add_ps(x, _mm256_set1_ps(g.after)));
    }
  } else {
    const LevelTable table = level_table(levels, g);
    const std::uint8_t* p = row + c / 8 * Bits;
#if KDLIB_VECTOR_BYTES == 64
    for (; c + i + 16 <= end; i += 16, p += 2 * Bits)
      store<float>(out + i, look_up(table, _mm512_maskz_inserti64x4(0xFF, _mm512_castsi256_si512(spread_codes<Bits>(p)),
                                                                    spread_codes<Bits>(p + Bits), 1)));
#else
    for (; c + i + 8 <= end; i += 8, p += Bits) store<float>(out + i, look_up(table, spread_codes<Bits>(p)));
#endif
  }
  return i;
}
#endif

/// Rows of a coded weight, from row `begin`.
template <int Bits, class T>
KDLIB_LANE void decode_coded_rows(const CodedRanges& w, std::int64_t begin, std::int64_t count, T* out) {
  const std::int64_t groups = w.row_groups();
#if KDLIB_VECTOR_BYTES >= 32
  LevelTable levels{};
  if constexpr (Bits != 8) levels = level_table(w.levels);
#endif
  for (std::int64_t r = begin; r < begin + count; ++r, out += w.columns) {
    const std::uint8_t* row = w.codes + r * w.row_bytes();
    const std::int64_t first = w.crossing ? r * w.columns : r * groups * w.group;  // place of column 0 among the groups
    for (std::int64_t c = 0; c < w.columns;) {
      const std::int64_t at = (first + c) / w.group, stop = (at + 1) * w.group - first,
                         end = stop < w.columns ? stop : w.columns;
      const CodedGroup g = coded_group(w, at);
#if KDLIB_VECTOR_BYTES >= 32
      if constexpr (std::is_same_v<T, float>)
        if (c % 8 == 0) c += decode_packs<Bits>(levels, row, c, end, g, out + c);
#endif
      for (; c < end; ++c) out[c] = static_cast<T>(coded_value<float>(level_at<Bits>(w, row, c), g));
    }
  }
}
template <class T>
KDLIB_LOOP void decode_coded(const CodedRanges& w, std::int64_t begin, std::int64_t count, T* out) {
  switch (w.bits) {
    case 3:
      return decode_coded_rows<3>(w, begin, count, out);
    case 4:
      return decode_coded_rows<4>(w, begin, count, out);
    default:
      return decode_coded_rows<8>(w, begin, count, out);
  }
}

#endif
