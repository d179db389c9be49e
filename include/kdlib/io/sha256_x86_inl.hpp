// SPDX-License-Identifier: Apache-2.0
// SHA-256 by the instructions that x86 processors have for it (Intel SDM, "SHA extensions").
#ifndef KDLIB_IO_SHA256_X86_INL_HPP
#define KDLIB_IO_SHA256_X86_INL_HPP

#include <cpuid.h>

#include <cstddef>
#include <cstdint>
#include <cstring>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// SHA, SSSE3 and SSE4.1.
inline bool cpu_hashes_sha256() {
  unsigned a = 0, b = 0, c = 0, d = 0;
  if (__get_cpuid_count(7, 0, &a, &b, &c, &d) == 0 || (b & (1u << 29)) == 0) return false;
  return __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_SSSE3) != 0 && (c & bit_SSE4_1) != 0;
}

// Four words, as the builtins take them: <immintrin.h> would add 46 000 lines to every header that hashes a file.
typedef int ShaWords __attribute__((vector_size(16)));
typedef char ShaBytes __attribute__((vector_size(16)));

/// Adds a block of 64 bytes to a state of eight words. `constants`: the 64 of the standard.
__attribute__((target("sha,ssse3,sse4.1"))) inline void add_sha256_instructions(std::uint32_t* state,
                                                                                const std::uint32_t* constants,
                                                                                const unsigned char* block) {
  const auto load = [](const void* at) {
    ShaWords words;
    std::memcpy(&words, at, sizeof words);
    return words;
  };
  // The instructions want the words in the orders a b e f and c d g h, the first one in the highest place.
  const ShaWords dcba = load(state), hgfe = load(state + 4);
  const ShaWords cdab = __builtin_shufflevector(dcba, dcba, 1, 0, 3, 2);
  const ShaWords efgh = __builtin_shufflevector(hgfe, hgfe, 3, 2, 1, 0);
  ShaWords abef = __builtin_shufflevector(efgh, cdab, 2, 3, 4, 5);
  ShaWords cdgh = __builtin_shufflevector(efgh, cdab, 0, 1, 6, 7);
  const ShaWords abef_before = abef, cdgh_before = cdgh;
  ShaWords w[4];
  for (int i = 0; i < 4; ++i) {
    const ShaBytes bytes = reinterpret_cast<ShaBytes>(load(block + 16 * i));
    w[i] = reinterpret_cast<ShaWords>(
        __builtin_shufflevector(bytes, bytes, 3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12));
  }
  for (int i = 0; i < 16; ++i) {  // four rounds each
    const ShaWords sum = w[i & 3] + load(constants + 4 * i);
    cdgh = __builtin_ia32_sha256rnds2(cdgh, abef, sum);
    abef = __builtin_ia32_sha256rnds2(abef, cdgh, __builtin_shufflevector(sum, sum, 2, 3, 0, 0));
    if (i >= 12) continue;
    const ShaWords next = w[(i + 1) & 3], last = w[(i + 3) & 3];
    const ShaWords seven_before = __builtin_shufflevector(w[(i + 2) & 3], last, 1, 2, 3, 4);
    w[i & 3] = __builtin_ia32_sha256msg2(__builtin_ia32_sha256msg1(w[i & 3], next) + seven_before, last);
  }
  abef += abef_before;
  cdgh += cdgh_before;
  const ShaWords feba = __builtin_shufflevector(abef, abef, 3, 2, 1, 0);
  const ShaWords dchg = __builtin_shufflevector(cdgh, cdgh, 1, 0, 3, 2);
  const ShaWords low = __builtin_shufflevector(feba, dchg, 0, 1, 6, 7);
  const ShaWords high = __builtin_shufflevector(feba, dchg, 2, 3, 4, 5);
  std::memcpy(state, &low, sizeof low);
  std::memcpy(state + 4, &high, sizeof high);
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
