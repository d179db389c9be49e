// SPDX-License-Identifier: Apache-2.0
// A folder for what a process keeps while it runs.
#ifndef KDLIB_IO_TEMPORARY_FOLDER_HPP
#define KDLIB_IO_TEMPORARY_FOLDER_HPP

#include <stdlib.h>

#include <string>

#include "kdlib/core/error.hpp"
#include "kdlib/io/paths.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// A new folder in $TMPDIR, or in /tmp, that is gone again at the end with all that is in it.
class TemporaryFolder {
 public:
  /// Its name begins with `name`. IoError beginning with `what`.
  TemporaryFolder(const char* what, const char* name) {
    const char* place = ::getenv("TMPDIR");
    path_ = concat(place != nullptr && *place != '\0' ? place : "/tmp", "/", name, "_XXXXXX");
    require<IoError>(::mkdtemp(path_.data()) != nullptr, what, ": ", path_);
  }
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder() {
    try {
      remove_tree(path_);
    } catch (const Error&) {
      // nothing there is needed
    }
  }
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
