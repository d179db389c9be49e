// SPDX-License-Identifier: Apache-2.0
// Conversions between bf16 and float. Part of vector_body_inl.hpp, included once for each instruction set, hence
// no include guard.
#ifdef KDLIB_VECTOR_SPACE

/// As many unsigned integers of 16 bits as a vector has lanes of float.
typedef std::uint16_t HalfBits
    __attribute__((vector_size(KDLIB_VECTOR_BYTES / 2), aligned(sizeof(std::uint16_t)), may_alias));
typedef std::uint32_t WordBits __attribute__((vector_size(KDLIB_VECTOR_BYTES)));

/// y = x exactly.
KDLIB_LOOP void widen(std::int64_t n, const bf16* x, float* y) {
  std::int64_t i = 0;
  for (; i + Pack<float>::lanes <= n; i += Pack<float>::lanes) {
    const WordBits bits = __builtin_convertvector(*reinterpret_cast<const HalfBits*>(x + i), WordBits) << 16;
    V<float> values;
    __builtin_memcpy(&values, &bits, sizeof values);
    store(y + i, values);
  }
  for (; i < n; ++i) y[i] = x[i];
}

/// y = x rounded to the nearest, ties to even; NaN stays a quiet NaN.
KDLIB_LOOP void narrow(std::int64_t n, const float* x, bf16* y) {
  std::int64_t i = 0;
  for (; i + Pack<float>::lanes <= n; i += Pack<float>::lanes) {
    const V<float> values = load(x + i);
    WordBits bits;
    __builtin_memcpy(&bits, &values, sizeof bits);
    const WordBits high = bits >> 16, rounded = (bits + 0x7FFFu + (high & 1u)) >> 16;
    const WordBits kept = (bits & 0x7FFFFFFFu) > 0x7F800000u ? high | 0x40u : rounded;
    *reinterpret_cast<HalfBits*>(y + i) = __builtin_convertvector(kept, HalfBits);
  }
  for (; i < n; ++i) y[i] = bf16(x[i]);
}

#endif
