// SPDX-License-Identifier: Apache-2.0
// Functions that check UTF-8 and count or cut its characters.
#ifndef KDLIB_CORE_UTF8_HPP
#define KDLIB_CORE_UTF8_HPP

#include <cstddef>
#include <string_view>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN

/// Returns the offset of the first byte that is not part of valid UTF-8 (RFC 3629: no surrogates, no overlong forms, at
/// most U+10FFFF), or std::string_view::npos if the whole text is valid.
std::size_t find_invalid_utf8(std::string_view text);

/// Returns the first `most` bytes of valid UTF-8, or up to three bytes fewer so that no character is cut.
std::string_view whole_characters(std::string_view text, std::size_t most);

namespace detail {
/// Returns the number of code points of valid UTF-8.
std::size_t utf8_count(std::string_view text);
/// Returns the number of bytes of the code point at the beginning of `text`, which must not be empty, or 0 if that code
/// point is not valid.
std::size_t utf8_length(std::string_view text);
}  // namespace detail

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/core/utf8_inl.hpp"
#endif

#endif
