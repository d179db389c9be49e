// SPDX-License-Identifier: Apache-2.0
// How is a name of unknown bytes shown in a message?
#ifndef KDLIB_IO_UTF8_HPP
#define KDLIB_IO_UTF8_HPP

#include <cstddef>
#include <string>
#include <string_view>

#include "kdlib/core/utf8.hpp"

KDLIB_NAMESPACE_BEGIN

/// A name from a file, for error messages and terminals: control characters (C0, DEL, C1), marks that turn the
/// direction of writing and invalid UTF-8 as \xHH for each byte, cut behind about `limit` bytes.
std::string printable(std::string_view name, std::size_t limit = 80);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/io/utf8_inl.hpp"
#endif

#endif
