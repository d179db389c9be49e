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

/// out[i] = code_i * scale + zero in float, for the n codes of one group, n even: two signed codes a byte, the low nibble first.
template <class T>
KDLIB_LANE void decode_int4_group(const std::uint8_t* codes, std::int64_t n, float scale, float zero, T* out) {
  std::int64_t i = 0;
  if constexpr (std::is_same_v<T, float> && KDLIB_VECTOR_BYTES >= 32) {
    typedef std::int32_t I __attribute__((vector_size(KDLIB_VECTOR_BYTES)));
    typedef std::int64_t L __attribute__((vector_size(KDLIB_VECTOR_BYTES)));
    static constexpr std::int32_t shifts[16] = {28, 24, 20, 16, 12, 8, 4, 0, 28, 24, 20, 16, 12, 8, 4, 0};
    static constexpr std::int64_t upper[8] = {0, 0, 0, 0, -1, -1, -1, -1};
    I left;
    L second;
    __builtin_memcpy(&left, shifts, sizeof left);
    __builtin_memcpy(&second, upper, sizeof second);
    for (; i + Pack<T>::lanes <= n; i += Pack<T>::lanes) {
      I bits{};
      if constexpr (Pack<T>::lanes == 16) {  // eight codes a 32-bit word: one word for the lower lanes, the next for the upper ones
        std::uint64_t words;
        __builtin_memcpy(&words, codes + i / 2, 8);
        const L low = L{} + static_cast<std::int64_t>((words & 0xFFFFFFFFu) * 0x100000001u);
        const L high = L{} + static_cast<std::int64_t>((words >> 32) * 0x100000001u);
        const L both = (low & ~second) | (high & second);
        __builtin_memcpy(&bits, &both, sizeof bits);
      } else {
        std::int32_t word;
        __builtin_memcpy(&word, codes + i / 2, 4);
        bits += word;
      }
      bits = (bits << left) >> 28;
      V<T> v = __builtin_convertvector(bits, V<T>) * scale;
      rounded(v);
      store<T>(out + i, v + zero);
    }
  }
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
