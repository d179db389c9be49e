// SPDX-License-Identifier: Apache-2.0
// A lock that keeps other processes out of a folder, or shares the folder with processes that agree to share it.
#ifndef KDLIB_TOOLS_FOLDER_LOCK_HPP
#define KDLIB_TOOLS_FOLDER_LOCK_HPP

#include <fcntl.h>
#include <sys/file.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <utility>

#include "kdlib/io/system_inl.hpp"

KDLIB_NAMESPACE_BEGIN

/// A lock on a folder for the life of this object. If the process ends in any way, the system releases the lock. On
/// file systems without locks (some network disks) the lock always succeeds.
class SharedFolderLock {
 public:
  enum class Mode { alone, shared };

  SharedFolderLock() = default;

  /// Returns false if another process holds the folder in a way that excludes `mode`. IoError: the folder cannot be
  /// opened.
  bool try_take(const std::string& folder, Mode mode) {
    fd_ = detail::open_descriptor(folder, O_RDONLY | O_DIRECTORY);
    if (!fd_) detail::fail_io("lock", folder, errno);
    if (::flock(fd_.get(), (mode == Mode::alone ? LOCK_EX : LOCK_SH) | LOCK_NB) == 0) return true;
    if (errno != EWOULDBLOCK) return true;
    fd_.reset();
    return false;
  }

 private:
  detail::FileDescriptor fd_;
};

KDLIB_NAMESPACE_END

#endif
