// SPDX-License-Identifier: Apache-2.0
// A hash that tells texts, prompts and weights apart. Do not use the hash against forgery.
#ifndef KDLIB_CORE_FINGERPRINT_HPP
#define KDLIB_CORE_FINGERPRINT_HPP

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN

/// Returns a number as 16 hexadecimal digits.
std::string hex_digits(std::uint64_t number);

/// A 64-bit FNV-1a hash of all that was added, in order. A checkpoint uses such hashes to know which data it belongs
/// to.
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

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/core/fingerprint_inl.hpp"
#endif

#endif
