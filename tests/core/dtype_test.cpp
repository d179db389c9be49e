// SPDX-License-Identifier: Apache-2.0
#include "kdlib/core/dtype.hpp"

#include <cmath>
#include <limits>

#include "support/catch.hpp"

using namespace kdlib;

TEST_CASE("every binary16 pattern survives float and back", "[core][dtype]") {
  for (unsigned i = 0; i < 65536; ++i) {
    const f16 h = f16::from_bits(static_cast<std::uint16_t>(i));
    const float x = h;
    if (std::isnan(x)) {
      CHECK(std::isnan(static_cast<float>(f16(x))));
      continue;
    }
    REQUIRE(f16(x).bits == i);
  }
}

TEST_CASE("binary16 rounds to nearest even, overflows to infinity and keeps subnormals", "[core][dtype]") {
  CHECK(f16(1.0f).bits == 0x3C00);
  CHECK(f16(65504.0f).bits == 0x7BFF);
  CHECK(f16(65519.9f).bits == 0x7BFF);
  CHECK(f16(65520.0f).bits == 0x7C00);
  CHECK(f16(-std::numeric_limits<float>::infinity()).bits == 0xFC00);
  CHECK(f16(std::ldexp(1.0f, -24)).bits == 0x0001);
  CHECK(f16(std::ldexp(1.0f, -25)).bits == 0x0000);  // a tie goes to even
  CHECK(f16(std::ldexp(1.5f, -25)).bits == 0x0001);
  CHECK(f16(1.0f + std::ldexp(1.0f, -11)).bits == 0x3C00);      // tie, even below
  CHECK(f16(1.0f + 3 * std::ldexp(1.0f, -11)).bits == 0x3C02);  // tie, even above
}

TEST_CASE("every bfloat16 pattern survives float and back", "[core][dtype]") {
  for (unsigned i = 0; i < 65536; ++i) {
    const float x = bf16::from_bits(static_cast<std::uint16_t>(i));
    if (std::isnan(x)) {
      CHECK(std::isnan(static_cast<float>(bf16(x))));
      continue;
    }
    REQUIRE(bf16(x).bits == i);
  }
  CHECK(bf16(1.0f + std::ldexp(1.0f, -8)).bits == 0x3F80);      // tie to even below
  CHECK(bf16(1.0f + 3 * std::ldexp(1.0f, -8)).bits == 0x3F82);  // tie to even above
}
