// SPDX-License-Identifier: Apache-2.0
// The part of vector_body_inl.hpp that decodes packed int4 weights: included by it inside its namespaces, once for each instruction set,
// hence no include guard.
#ifdef KDLIB_VECTOR_SPACE

/// Keeps a product from being fused with the sum that follows: decoded values are rounded twice, as the format says.
template <class X>
KDLIB_LANE void rounded(X& x) {
#if defined(__x86_64__)
  asm("" : "+x"(x));
#else
  asm("" : "+m"(x));
#endif
}

#if KDLIB_VECTOR_BYTES == 64
/// 16 codes a turn: their values are looked up in a table of 16 for the group. Answers how many codes were decoded.
KDLIB_LANE std::int64_t decode_int4_packs(const std::uint8_t* codes, std::int64_t n, float scale, float zero, float* out) {
  // In an 8-byte word spread over the vector, even lanes hold codes 0 to 7 and odd lanes codes 8 to 15; `order` puts them in sequence.
  const __m512i right = _mm512_set_epi32(28, 28, 24, 24, 20, 20, 16, 16, 12, 12, 8, 8, 4, 4, 0, 0);
  const __m512i order = _mm512_set_epi32(15, 13, 11, 9, 7, 5, 3, 1, 14, 12, 10, 8, 6, 4, 2, 0);
  __m512 table = _mm512_set_ps(-1, -2, -3, -4, -5, -6, -7, -8, 7, 6, 5, 4, 3, 2, 1, 0) * scale;
  rounded(table);
  table = table + zero;
  const __mmask16 every = 0xFFFF;  // the forms without a mask make g++ 12 warn of an uninitialised value
  std::int64_t i = 0;
  for (; i + 16 <= n; i += 16) {
    std::int64_t word;
    __builtin_memcpy(&word, codes + i / 2, 8);
    const __m512i bits = _mm512_maskz_srlv_epi32(every, _mm512_set1_epi64(word), right);  // the look-up reads the low four bits of a lane
    const __m512 mixed = _mm512_maskz_permutexvar_ps(every, bits, table);
    store<float>(out + i, _mm512_maskz_permutexvar_ps(every, order, mixed));
  }
  return i;
}
#elif KDLIB_VECTOR_BYTES == 32
/// Eight codes a turn: a 4-byte word in every lane, shifted so that each lane keeps its own code. Answers how many codes were decoded.
KDLIB_LANE std::int64_t decode_int4_packs(const std::uint8_t* codes, std::int64_t n, float scale, float zero, float* out) {
  typedef std::int32_t I __attribute__((vector_size(32)));
  const I left = {28, 24, 20, 16, 12, 8, 4, 0};
  std::int64_t i = 0;
  for (; i + 8 <= n; i += 8) {
    std::int32_t word;
    __builtin_memcpy(&word, codes + i / 2, 4);
    V<float> v = __builtin_convertvector(((I{} + word) << left) >> 28, V<float>) * scale;
    rounded(v);
    store<float>(out + i, v + zero);
  }
  return i;
}
#endif

/// out[i] = code_i * scale + zero in float, for the n codes of one group, n even: two signed codes a byte, the low nibble first.
template <class T>
KDLIB_LANE void decode_int4_group(const std::uint8_t* codes, std::int64_t n, float scale, float zero, T* out) {
  std::int64_t i = 0;
#if KDLIB_VECTOR_BYTES >= 32
  if constexpr (std::is_same_v<T, float>) i = decode_int4_packs(codes, n, scale, zero, out);
#endif
  for (; i < n; i += 2) {
    const std::uint8_t b = codes[i / 2];
    float low = static_cast<float>(static_cast<std::int8_t>(static_cast<std::uint8_t>(b << 4)) >> 4) * scale;
    float high = static_cast<float>(static_cast<std::int8_t>(b) >> 4) * scale;
    rounded(low);
    rounded(high);
    out[i] = static_cast<T>(low + zero);
    out[i + 1] = static_cast<T>(high + zero);
  }
}

/// Rows of a packed weight, from row `begin`.
template <class T>
KDLIB_LOOP void decode_int4(const Int4Ranges& w, std::int64_t begin, std::int64_t count, T* out) {
  const std::int64_t groups = w.columns / w.group;
  for (std::int64_t r = begin; r < begin + count; ++r)
    for (std::int64_t g = 0; g < groups; ++g, out += w.group)
      decode_int4_group(w.codes + (r * w.columns + g * w.group) / 2, w.group, w.scale[r * groups + g], w.zero == nullptr ? 0.0f : w.zero[r * groups + g],
                        out);
}

#endif
