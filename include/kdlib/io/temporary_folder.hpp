// SPDX-License-Identifier: Apache-2.0
// A folder for files that a process needs only while it runs.
#ifndef KDLIB_IO_TEMPORARY_FOLDER_HPP
#define KDLIB_IO_TEMPORARY_FOLDER_HPP

#include <string>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// A new folder in $TMPDIR, or in /tmp. The destructor removes the folder with all its content.
class TemporaryFolder {
 public:
  /// The folder's name begins with `name`. Throws IoError, whose text begins with `what`, if the folder cannot be made.
  TemporaryFolder(const char* what, const char* name);
  TemporaryFolder(const TemporaryFolder&) = delete;
  TemporaryFolder& operator=(const TemporaryFolder&) = delete;
  ~TemporaryFolder();
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

}  // namespace detail
KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/io/temporary_folder_inl.hpp"
#endif

#endif
