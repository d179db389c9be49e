// SPDX-License-Identifier: Apache-2.0
// Bodies of io/checksum.hpp.
#ifndef KDLIB_IO_CHECKSUM_INL_HPP
#define KDLIB_IO_CHECKSUM_INL_HPP

#include <cstring>

#include "kdlib/core/fingerprint.hpp"
#include "kdlib/io/checksum.hpp"
#include "kdlib/io/mapped_file.hpp"
#include "kdlib/io/paths.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {
inline constexpr std::uint64_t xxh_primes[5] = {0x9E3779B185EBCA87u, 0xC2B2AE3D27D4EB4Fu, 0x165667B19E3779F9u,
                                                0x85EBCA77C2B2AE63u, 0x27D4EB2F165667C5u};

KDLIB_FUNC std::uint64_t xxh_rotated(std::uint64_t x, int n) { return (x << n) | (x >> (64 - n)); }

template <class Word>
std::uint64_t xxh_word(const std::byte* at) {  // little-endian, as every machine that kdlib runs on
  Word word;
  std::memcpy(&word, at, sizeof word);
  return word;
}

KDLIB_FUNC std::uint64_t xxh_round(std::uint64_t sum, std::uint64_t word) {
  return xxh_rotated(sum + word * xxh_primes[1], 31) * xxh_primes[0];
}

KDLIB_FUNC std::uint64_t xxh_end(std::uint64_t hash, const std::byte* at, std::size_t left) {
  const auto& p = xxh_primes;
  for (; left >= 8; at += 8, left -= 8)
    hash = xxh_rotated(hash ^ xxh_round(0, xxh_word<std::uint64_t>(at)), 27) * p[0] + p[3];
  for (; left >= 4; at += 4, left -= 4)
    hash = xxh_rotated(hash ^ (xxh_word<std::uint32_t>(at) * p[0]), 23) * p[1] + p[2];
  for (; left > 0; ++at, --left) hash = xxh_rotated(hash ^ (xxh_word<std::uint8_t>(at) * p[4]), 11) * p[0];
  hash = (hash ^ (hash >> 33)) * p[1];
  hash = (hash ^ (hash >> 29)) * p[2];
  return hash ^ (hash >> 32);
}
}  // namespace detail

KDLIB_FUNC std::uint64_t xxh64(std::span<const std::byte> bytes) {
  const auto& p = detail::xxh_primes;
  const std::byte* at = bytes.data();
  std::size_t left = bytes.size();
  std::uint64_t hash = p[4];
  if (left >= 32) {
    std::uint64_t sums[4] = {p[0] + p[1], p[1], 0, 0 - p[0]};
    for (; left >= 32; at += 32, left -= 32)
      for (int i = 0; i < 4; ++i) sums[i] = detail::xxh_round(sums[i], detail::xxh_word<std::uint64_t>(at + 8 * i));
    hash = detail::xxh_rotated(sums[0], 1) + detail::xxh_rotated(sums[1], 7) + detail::xxh_rotated(sums[2], 12) +
           detail::xxh_rotated(sums[3], 18);
    for (const std::uint64_t sum : sums) hash = (hash ^ detail::xxh_round(0, sum)) * p[0] + p[3];
  }
  return detail::xxh_end(hash + bytes.size(), at, left);
}

KDLIB_FUNC std::string checksum_text(std::span<const std::byte> bytes) { return "xxh64:" + hex_digits(xxh64(bytes)); }

KDLIB_FUNC std::string checksum_text(std::string_view text) {
  return checksum_text(std::as_bytes(std::span(text.data(), text.size())));
}

KDLIB_FUNC std::string file_checksum(const std::string& path) {
  if (file_size(path) == 0) return checksum_text(std::string_view());
  return checksum_text(MappedFile(path).bytes());
}

KDLIB_NAMESPACE_END

#endif
