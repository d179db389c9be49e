// SPDX-License-Identifier: Apache-2.0
// Is this text valid UTF-8, and how is a name of unknown bytes shown in a message?
#ifndef KDLIB_IO_UTF8_HPP
#define KDLIB_IO_UTF8_HPP

#include <cstddef>
#include <string>
#include <string_view>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN

/// Offset of the first byte that is not part of valid UTF-8 (RFC 3629: no surrogates, no overlong forms, at most
/// U+10FFFF), or std::string_view::npos.
std::size_t find_invalid_utf8(std::string_view text);

/// A name from a file, for error messages and terminals: control characters (C0, DEL, C1), marks that turn the
/// direction of writing and invalid UTF-8 as \xHH for each byte, cut behind about `limit` bytes.
std::string printable(std::string_view name, std::size_t limit = 80);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/io/utf8_inl.hpp"
#endif

#endif
