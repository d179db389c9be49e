// SPDX-License-Identifier: Apache-2.0
// A hash that tells apart texts, prompts and weights: not for anything that someone may want to forge.
#ifndef KDLIB_CORE_FINGERPRINT_HPP
#define KDLIB_CORE_FINGERPRINT_HPP

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN

/// A number as 16 hexadecimal digits.
inline std::string hex_digits(std::uint64_t number) {
  std::string out(16, '0');
  for (int i = 0; i < 16; ++i) out[static_cast<std::size_t>(i)] = "0123456789abcdef"[(number >> (60 - 4 * i)) & 15];
  return out;
}

/// Adds bytes to a 64-bit FNV-1a hash: tells apart what a checkpoint belongs to.
class Fingerprint {
 public:
  void add(const void* data, std::size_t bytes);
  void add(std::int64_t number) { add(&number, sizeof number); }
  void add(std::span<const std::int32_t> ids);
  void add(std::string_view text);
  std::uint64_t value() const { return hash_; }
  std::string text() const;  // 16 hexadecimal digits

 private:
  std::uint64_t hash_ = 14695981039346656037ull;
};

inline void Fingerprint::add(const void* data, std::size_t bytes) {
  const auto* p = static_cast<const unsigned char*>(data);
  for (std::size_t i = 0; i < bytes; ++i) hash_ = (hash_ ^ p[i]) * 1099511628211ull;
}

inline void Fingerprint::add(std::span<const std::int32_t> ids) {
  add(static_cast<std::int64_t>(ids.size()));
  add(ids.data(), ids.size_bytes());
}

inline void Fingerprint::add(std::string_view text) {
  add(static_cast<std::int64_t>(text.size()));
  add(text.data(), text.size());
}

inline std::string Fingerprint::text() const { return hex_digits(hash_); }

KDLIB_NAMESPACE_END

#endif
