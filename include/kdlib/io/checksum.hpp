// SPDX-License-Identifier: Apache-2.0
// XXH64: a checksum that tells whether the bytes of a file are still those that were written.
#ifndef KDLIB_IO_CHECKSUM_HPP
#define KDLIB_IO_CHECKSUM_HPP

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN

/// XXH64 (https://xxhash.com) with seed 0. It is fast and depends on every bit of the input. It finds damage, not
/// forgery.
std::uint64_t xxh64(std::span<const std::byte> bytes);

/// Returns the checksum as text: "xxh64:" and 16 hexadecimal digits.
std::string checksum_text(std::span<const std::byte> bytes);
std::string checksum_text(std::string_view text);

/// Returns the checksum text of all bytes of a file. Throws IoError if the file cannot be read.
std::string file_checksum(const std::string& path);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/io/checksum_inl.hpp"
#endif

#endif
