// SPDX-License-Identifier: Apache-2.0
// BLAKE2b with a digest of 8 bytes: gives each name a number that is the same on every machine, for splits and samples.
#ifndef KDLIB_IO_BLAKE2B_HPP
#define KDLIB_IO_BLAKE2B_HPP

#include <cstdint>
#include <string_view>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN

/// Returns the 8-byte BLAKE2b digest (RFC 7693, no key) of a text, read as a big-endian number. Python's equivalent is
/// `int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "big")`.
std::uint64_t blake2b64(std::string_view text);

/// A share of all names: the names whose blake2b64 is below floor(share * 2^64). The share is given as a decimal number
/// so that it means the same on every machine.
class HashShare {
 public:
  HashShare() = default;  // holds no name
  /// `decimal` is "0.001", ".1", "0" or "1": digits with at most one point, at most 18 digits behind the point, and a
  /// value of at most 1. Throws SettingsError, whose text begins with `what`, for anything else.
  HashShare(std::string_view decimal, std::string_view what);

  bool has(std::uint64_t hash) const { return all_ || hash < threshold_; }
  bool has(std::string_view name) const { return has(blake2b64(name)); }
  /// Returns floor(share * 2^64), or 2^64 - 1 for a share of 1, which holds every name.
  std::uint64_t threshold() const { return all_ ? ~std::uint64_t{0} : threshold_; }

 private:
  bool all_ = false;
  std::uint64_t threshold_ = 0;
};

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/io/blake2b_inl.hpp"
#endif

#endif
