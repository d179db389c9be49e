// SPDX-License-Identifier: Apache-2.0
// Bodies of io/writable_folder.hpp.
#ifndef KDLIB_IO_WRITABLE_FOLDER_INL_HPP
#define KDLIB_IO_WRITABLE_FOLDER_INL_HPP

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "kdlib/core/error.hpp"
#include "kdlib/io/paths.hpp"
#include "kdlib/io/writable_folder.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_FUNC void check_writable_folder(const std::string& folder, const std::string& what) {
  try {
    check_folder_path(folder);
  } catch (const IoError& error) {
    fail<IoError>(what, " ", folder, " cannot be the folder that is written: ", error.what());
  }
  std::string above = folder;
  while (!path_exists(above) && above != "." && above != "/") above = parent_path(above);
  require<IoError>(::faccessat(AT_FDCWD, above.c_str(), W_OK | X_OK, AT_EACCESS) == 0, what, " ", folder,
                   ": nothing can be written in ", above, " (", std::strerror(errno), "); choose another folder");
}

KDLIB_NAMESPACE_END

#endif
