// SPDX-License-Identifier: Apache-2.0
// Bodies of io/temporary_folder.hpp.
#ifndef KDLIB_IO_TEMPORARY_FOLDER_INL_HPP
#define KDLIB_IO_TEMPORARY_FOLDER_INL_HPP

#include <stdlib.h>

#include "kdlib/core/error.hpp"
#include "kdlib/io/paths.hpp"
#include "kdlib/io/temporary_folder.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {
KDLIB_FUNC TemporaryFolder::TemporaryFolder(const char* what, const char* name) {
  const char* place = ::getenv("TMPDIR");
  path_ = concat(place != nullptr && *place != '\0' ? place : "/tmp", "/", name, "_XXXXXX");
  require<IoError>(::mkdtemp(path_.data()) != nullptr, what, ": ", path_);
}

KDLIB_FUNC TemporaryFolder::~TemporaryFolder() {
  try {
    remove_tree(path_);
  } catch (const Error&) {
    // nothing there is needed
  }
}
}  // namespace detail

KDLIB_NAMESPACE_END

#endif
