// SPDX-License-Identifier: Apache-2.0
// Philox4x32-10: random numbers as a pure function of (seed, purpose, step, row, index). The numbers are the same on
// every device and in any order of calls. Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC
// 2011).
#ifndef KDLIB_CORE_RNG_HPP
#define KDLIB_CORE_RNG_HPP

#include <cstdint>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN

/// The use of a stream of random numbers. The values are part of every saved run: add new values at the end and never
/// renumber.
enum class RngPurpose : std::uint32_t {
  initialise = 1,      // weights, LoRA A
  shuffle = 2,         // order of prompts
  sample_student = 3,  // tokens that the student writes
  sample_teacher = 4,  // tokens that the teacher writes
  lambda_coin = 5,     // the choice between on-policy and given text
  dropout = 6,
  test = 7,
  curriculum = 8,   // reasoning modes of tickets (data/curriculum.hpp)
  retry_delay = 9,  // between two requests to a server
};

/// Four random words of 32 bits.
struct PhiloxBlock {
  std::uint32_t word[4];
};

/// Returns the Philox4x32-10 block of a 128-bit counter and a 64-bit key.
KDLIB_HOST_DEVICE inline PhiloxBlock philox(std::uint32_t c0, std::uint32_t c1, std::uint32_t c2, std::uint32_t c3,
                                            std::uint64_t key) {
  std::uint32_t k0 = static_cast<std::uint32_t>(key), k1 = static_cast<std::uint32_t>(key >> 32);
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t a = std::uint64_t{0xD2511F53u} * c0, b = std::uint64_t{0xCD9E8D57u} * c2;
    const std::uint32_t n0 = static_cast<std::uint32_t>(b >> 32) ^ c1 ^ k0,
                        n2 = static_cast<std::uint32_t>(a >> 32) ^ c3 ^ k1;
    c0 = n0;
    c1 = static_cast<std::uint32_t>(b);
    c2 = n2;
    c3 = static_cast<std::uint32_t>(a);
    k0 += 0x9E3779B9u;
    k1 += 0xBB67AE85u;
  }
  return {{c0, c1, c2, c3}};
}

/// A stream of random numbers that are addressed by their index: key = seed, counter = (purpose, step, row, index). An
/// Rng has no state that a resumed run could lose.
class Rng {
 public:
  KDLIB_HOST_DEVICE Rng(std::uint64_t seed, RngPurpose purpose, std::uint32_t step = 0, std::uint32_t row = 0)
      : seed_(seed), purpose_(static_cast<std::uint32_t>(purpose)), step_(step), row_(row) {}

  /// Returns 32 uniform bits at `index`.
  KDLIB_HOST_DEVICE std::uint32_t bits(std::uint32_t index) const {
    return philox(purpose_, step_, row_, index, seed_).word[0];
  }
  /// Returns a uniform number in [0, 1) with 53 bits.
  KDLIB_HOST_DEVICE double uniform(std::uint32_t index) const {
    const PhiloxBlock b = philox(purpose_, step_, row_, index, seed_);
    const std::uint64_t high = b.word[0] >> 5, low = b.word[1] >> 6;
    return static_cast<double>((high << 26) | low) * (1.0 / 9007199254740992.0);
  }
  /// Returns a uniform integer in [0, bound), bound > 0. The bias is below bound / 2^64.
  KDLIB_HOST_DEVICE std::uint64_t below(std::uint32_t index, std::uint64_t bound) const {
    const PhiloxBlock b = philox(purpose_, step_, row_, index, seed_);
    const std::uint64_t x = (std::uint64_t{b.word[0]} << 32) | b.word[1];
    const std::uint64_t high = x >> 32, low = x & 0xFFFFFFFFu;  // (x * bound) >> 64 for bound < 2^32, else modulo
    if (bound <= 0xFFFFFFFFu) return (high * bound + ((low * bound) >> 32)) >> 32;
    return x % bound;
  }

 private:
  std::uint64_t seed_;
  std::uint32_t purpose_, step_, row_;
};

KDLIB_NAMESPACE_END

#endif
