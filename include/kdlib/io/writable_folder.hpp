// SPDX-License-Identifier: Apache-2.0
// Whether a program will be able to write into a folder: asked before hours of work, not after them.
#ifndef KDLIB_IO_WRITABLE_FOLDER_HPP
#define KDLIB_IO_WRITABLE_FOLDER_HPP

#include <string>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN

/// Refuses, without touching anything, a folder that is a file or a link to nothing, that cannot be made, or in which
/// this process may not write. IoError begins with `what`, as in "[distil] --out".
void check_writable_folder(const std::string& folder, const std::string& what);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/io/writable_folder_inl.hpp"
#endif

#endif
