// SPDX-License-Identifier: Apache-2.0
#include "kdlib/core/rng.hpp"

#include <cmath>

#include "support/catch.hpp"

using namespace kdlib;

TEST_CASE("Philox4x32-10 gives the published known answers", "[core][rng]") {
  // Known-answer vectors published with the Random123 library (kat_vectors, philox4x32 10 rounds).
  struct Case {
    std::uint32_t counter[4];
    std::uint64_t key;
    std::uint32_t expected[4];
  };
  const Case cases[] = {
      {{0, 0, 0, 0}, 0, {0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u}},
      {{0xffffffffu, 0xffffffffu, 0xffffffffu, 0xffffffffu},
       0xffffffffffffffffu,
       {0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu}},
      {{0x243f6a88u, 0x85a308d3u, 0x13198a2eu, 0x03707344u},
       0x299f31d0a4093822u,
       {0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u}},
  };
  for (const Case& c : cases) {
    const PhiloxBlock b = philox(c.counter[0], c.counter[1], c.counter[2], c.counter[3], c.key);
    for (int i = 0; i < 4; ++i) CHECK(b.word[i] == c.expected[i]);
  }
}

TEST_CASE("random numbers depend on seed, purpose, step, row and index alone", "[core][rng]") {
  const Rng a(7, RngPurpose::sample_student, 3, 5);
  CHECK(a.bits(11) == Rng(7, RngPurpose::sample_student, 3, 5).bits(11));
  CHECK(a.bits(11) != a.bits(12));
  CHECK(a.bits(11) != Rng(8, RngPurpose::sample_student, 3, 5).bits(11));
  CHECK(a.bits(11) != Rng(7, RngPurpose::sample_teacher, 3, 5).bits(11));
  CHECK(a.bits(11) != Rng(7, RngPurpose::sample_student, 4, 5).bits(11));
  CHECK(a.bits(11) != Rng(7, RngPurpose::sample_student, 3, 6).bits(11));
}

TEST_CASE("uniform numbers lie in [0, 1) with the right mean and variance", "[core][rng]") {
  const Rng rng(1, RngPurpose::test);
  double sum = 0, squares = 0;
  const int n = 20000;
  for (int i = 0; i < n; ++i) {
    const double u = rng.uniform(static_cast<std::uint32_t>(i));
    REQUIRE(u >= 0.0);
    REQUIRE(u < 1.0);
    sum += u, squares += u * u;
  }
  const double mean = sum / n, variance = squares / n - mean * mean;
  CHECK(std::abs(mean - 0.5) < 4 * std::sqrt(1.0 / 12 / n));
  CHECK(std::abs(variance - 1.0 / 12) < 0.003);
}

TEST_CASE("integers below a bound reach every value and never the bound", "[core][rng]") {
  const Rng rng(2, RngPurpose::test);
  int seen[7] = {};
  for (std::uint32_t i = 0; i < 700; ++i) {
    const std::uint64_t k = rng.below(i, 7);
    REQUIRE(k < 7);
    ++seen[k];
  }
  for (const int count : seen) CHECK((count > 60 && count < 140));
  CHECK(rng.below(0, 1) == 0);
  CHECK(rng.below(5, std::uint64_t{1} << 40) < (std::uint64_t{1} << 40));
}
