// SPDX-License-Identifier: Apache-2.0
// Tells whether a program will be able to write into a folder, before hours of work and not after them.
#ifndef KDLIB_IO_WRITABLE_FOLDER_HPP
#define KDLIB_IO_WRITABLE_FOLDER_HPP

#include <string>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN

/// Throws IoError, without changing anything, if the folder is a file or a link to nothing, if it cannot be made, or if
/// this process may not write into it. The message begins with `what`, as in "[distil] --out".
void check_writable_folder(const std::string& folder, const std::string& what);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/io/writable_folder_inl.hpp"
#endif

#endif
