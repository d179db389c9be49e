// SPDX-License-Identifier: Apache-2.0
// Bodies of blake2b.hpp.
#ifndef KDLIB_IO_BLAKE2B_INL_HPP
#define KDLIB_IO_BLAKE2B_INL_HPP

#include <array>
#include <bit>
#include <cstddef>
#include <cstring>

#include "kdlib/core/settings_error.hpp"
#include "kdlib/io/blake2b.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

inline constexpr std::array<std::uint64_t, 8> blake2b_start{
    0x6a09e667f3bcc908u, 0xbb67ae8584caa73bu, 0x3c6ef372fe94f82bu, 0xa54ff53a5f1d36f1u,
    0x510e527fade682d1u, 0x9b05688c2b3e6c1fu, 0x1f83d9abfb41bd6bu, 0x5be0cd19137e2179u};
inline constexpr unsigned char blake2b_order[10][16] = {
    {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15}, {14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3},
    {11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4}, {7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8},
    {9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13}, {2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9},
    {12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11}, {13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10},
    {6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5}, {10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0}};

/// One block of 128 bytes; `bytes` counts those of the text up to its end.
KDLIB_FUNC void blake2b_block(std::array<std::uint64_t, 8>& h, const unsigned char* block, std::uint64_t bytes,
                              bool last) {
  std::uint64_t m[16], v[16];
  for (int i = 0; i < 16; ++i) {
    m[i] = 0;
    for (int b = 7; b >= 0; --b) m[i] = (m[i] << 8) | block[8 * i + b];
  }
  for (std::size_t i = 0; i < 8; ++i) v[i] = h[i], v[i + 8] = blake2b_start[i];
  v[12] ^= bytes;
  if (last) v[14] = ~v[14];
  const auto mix = [&v](int a, int b, int c, int d, std::uint64_t x, std::uint64_t y) {
    v[a] += v[b] + x;
    v[d] = std::rotr(v[d] ^ v[a], 32);
    v[c] += v[d];
    v[b] = std::rotr(v[b] ^ v[c], 24);
    v[a] += v[b] + y;
    v[d] = std::rotr(v[d] ^ v[a], 16);
    v[c] += v[d];
    v[b] = std::rotr(v[b] ^ v[c], 63);
  };
  for (int round = 0; round < 12; ++round) {
    const unsigned char* s = blake2b_order[round % 10];
    for (int i = 0; i < 4; ++i) mix(i, i + 4, i + 8, i + 12, m[s[2 * i]], m[s[2 * i + 1]]);
    for (int i = 0; i < 4; ++i)
      mix(i, 4 + (i + 1) % 4, 8 + (i + 2) % 4, 12 + (i + 3) % 4, m[s[8 + 2 * i]], m[s[9 + 2 * i]]);
  }
  for (std::size_t i = 0; i < 8; ++i) h[i] ^= v[i] ^ v[i + 8];
}

}  // namespace detail

KDLIB_FUNC std::uint64_t blake2b64(std::string_view text) {
  std::array<std::uint64_t, 8> h = detail::blake2b_start;
  h[0] ^= 0x01010000u ^ 8u;  // parameters: digest of 8 bytes, no key, one leaf
  const auto* data = reinterpret_cast<const unsigned char*>(text.data());
  std::size_t at = 0;
  for (; text.size() - at > 128; at += 128) detail::blake2b_block(h, data + at, at + 128, false);
  unsigned char block[128] = {};
  if (!text.empty()) std::memcpy(block, data + at, text.size() - at);
  detail::blake2b_block(h, block, text.size(), true);
  std::uint64_t number = 0;  // the digest's bytes are those of h[0] from the lowest on
  for (int i = 0; i < 8; ++i) number = (number << 8) | ((h[0] >> (8 * i)) & 255);
  return number;
}

KDLIB_FUNC HashShare::HashShare(std::string_view decimal, std::string_view what) {
  std::uint64_t whole = 0, part = 0, unit = 1;
  bool point = false, digits = false, good = decimal.size() <= 20;
  for (const char c : decimal) {
    const bool digit = c >= '0' && c <= '9';
    good = good && (digit || (c == '.' && !point)) && unit < 1'000'000'000'000'000'000u && whole <= 1;
    if (!good) break;
    point = point || c == '.';
    digits = digits || digit;
    if (!digit) continue;
    const auto value = static_cast<std::uint64_t>(c - '0');
    if (point) part = 10 * part + value, unit *= 10;
    else whole = 10 * whole + value;
  }
  require<SettingsError>(good && digits && (whole == 0 || (whole == 1 && part == 0)), what, " is '", decimal,
                         "'; a decimal number from 0 to 1 such as 0.001 is needed");
  all_ = whole == 1;
  for (int bit = 0; bit < 64; ++bit) {  // long division: floor(part / unit * 2^64)
    part *= 2;
    threshold_ = threshold_ * 2 + (part >= unit ? 1 : 0);
    if (part >= unit) part -= unit;
  }
}

KDLIB_NAMESPACE_END

#endif
