// SPDX-License-Identifier: Apache-2.0
// SHA-256 by the instructions that x86 processors have for it (Intel SDM, "SHA extensions").
#ifndef KDLIB_IO_SHA256_X86_INL_HPP
#define KDLIB_IO_SHA256_X86_INL_HPP

#include <cpuid.h>
#include <immintrin.h>

#include <cstddef>
#include <cstdint>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// SHA, SSSE3 and SSE4.1.
inline bool cpu_hashes_sha256() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || (b & (1u << 29)) == 0) return false;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_SSSE3) != 0 && (c & bit_SSE4_1) != 0;
}

/// Adds a block of 64 bytes to a state of eight words. `constants`: the 64 of the standard.
__attribute__((target("sha,ssse3,sse4.1"))) inline void add_sha256_instructions(std::uint32_t* state,
                                                                                const std::uint32_t* constants,
                                                                                const unsigned char* block) {
  const __m128i big_endian = _mm_set_epi64x(0x0c0d0e0f08090a0bLL, 0x0405060700010203LL);
  const auto load = [](const void* at) { return _mm_loadu_si128(static_cast<const __m128i*>(at)); };
  // The instructions want the words in the orders a b e f and c d g h, the first one in the highest place.
  const __m128i dcba = load(state), hgfe = load(state + 4);
  const __m128i cdab = _mm_shuffle_epi32(dcba, 0xB1), efgh = _mm_shuffle_epi32(hgfe, 0x1B);
  __m128i abef = _mm_alignr_epi8(cdab, efgh, 8), cdgh = _mm_blend_epi16(efgh, cdab, 0xF0);
  const __m128i abef_before = abef, cdgh_before = cdgh;
  __m128i w[4];
  for (int i = 0; i < 4; ++i) w[i] = _mm_shuffle_epi8(load(block + 16 * i), big_endian);
  for (int i = 0; i < 16; ++i) {  // four rounds each
    const __m128i sum = _mm_add_epi32(w[i & 3], load(constants + 4 * i));
    cdgh = _mm_sha256rnds2_epu32(cdgh, abef, sum);
    abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(sum, 0x0E));
    if (i >= 12) continue;
    const __m128i next = w[(i + 1) & 3], last = w[(i + 3) & 3];
    const __m128i seven_before = _mm_alignr_epi8(last, w[(i + 2) & 3], 4);
    w[i & 3] = _mm_sha256msg2_epu32(_mm_add_epi32(_mm_sha256msg1_epu32(w[i & 3], next), seven_before), last);
  }
  abef = _mm_add_epi32(abef, abef_before);
  cdgh = _mm_add_epi32(cdgh, cdgh_before);
  const __m128i feba = _mm_shuffle_epi32(abef, 0x1B), dchg = _mm_shuffle_epi32(cdgh, 0xB1);
  _mm_storeu_si128(reinterpret_cast<__m128i*>(state), _mm_blend_epi16(feba, dchg, 0xF0));
  _mm_storeu_si128(reinterpret_cast<__m128i*>(state + 4), _mm_alignr_epi8(dchg, feba, 8));
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
