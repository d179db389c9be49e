// SPDX-License-Identifier: Apache-2.0
// Bodies of core/fingerprint.hpp.
#ifndef KDLIB_CORE_FINGERPRINT_INL_HPP
#define KDLIB_CORE_FINGERPRINT_INL_HPP

#include "kdlib/core/fingerprint.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_FUNC std::string hex_digits(std::uint64_t number) {
  std::string out(16, '0');
  for (int i = 0; i < 16; ++i) out[static_cast<std::size_t>(i)] = "0123456789abcdef"[(number >> (60 - 4 * i)) & 15];
  return out;
}

KDLIB_FUNC void Fingerprint::add(const void* data, std::size_t bytes) {
  const auto* p = static_cast<const unsigned char*>(data);
  for (std::size_t i = 0; i < bytes; ++i) hash_ = (hash_ ^ p[i]) * 1099511628211ull;
}

KDLIB_FUNC void Fingerprint::add(std::span<const std::int32_t> ids) {
  add(static_cast<std::int64_t>(ids.size()));
  add(ids.data(), ids.size_bytes());
}

KDLIB_FUNC void Fingerprint::add(std::string_view text) {
  add(static_cast<std::int64_t>(text.size()));
  add(text.data(), text.size());
}

KDLIB_FUNC std::string Fingerprint::text() const { return hex_digits(hash_); }

KDLIB_NAMESPACE_END

#endif
