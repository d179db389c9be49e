// SPDX-License-Identifier: Apache-2.0
// Shows a name of unknown bytes in a message.
#ifndef KDLIB_IO_UTF8_HPP
#define KDLIB_IO_UTF8_HPP

#include <cstddef>
#include <string>
#include <string_view>

#include "kdlib/core/utf8.hpp"

KDLIB_NAMESPACE_BEGIN

/// Makes a name from a file safe for error messages and terminals. Each byte of control characters (C0, DEL, C1), of
/// marks that turn the direction of writing and of invalid UTF-8 becomes \xHH. The result is cut behind about `limit`
/// bytes and then ends with "...".
std::string printable(std::string_view name, std::size_t limit = 80);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/io/utf8_inl.hpp"
#endif

#endif
