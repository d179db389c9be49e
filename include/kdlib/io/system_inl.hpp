// SPDX-License-Identifier: Apache-2.0
// The system calls of io/ in one place: interrupted calls are repeated, refusals become IoError with advice, and tests
// can make the n-th write, fsync or rename fail or kill the process.
#ifndef KDLIB_IO_SYSTEM_INL_HPP
#define KDLIB_IO_SYSTEM_INL_HPP

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstddef>
#include <cstdio>
#include <string>
#include <system_error>

#include "kdlib/core/error.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {

/// Stands before every system call that writes: gets "write", "fsync" or "rename" and answers 0, or the errno that the
/// call must report without being made. No program sets one; tests do (tests/support/fault_hook.hpp), before the first
/// write of the process.
using FaultHook = int (*)(const char* kind);
inline FaultHook& fault_hook() {
  static FaultHook hook = nullptr;
  return hook;
}
inline int fault_point(const char* kind) {
  const FaultHook hook = fault_hook();
  return hook == nullptr ? 0 : hook(kind);
}

/// What a user can do about an errno; empty when nothing is sure to help.
inline const char* io_advice(int code) {
  switch (code) {
    case ENOENT:
      return "; check the path";
    case ENOTDIR:
      return "; a part of the path is a file, not a folder: choose another path";
    case EISDIR:
      return "; this is a folder, name a file";
    case EEXIST:
      return "; a file of this name is in the way: choose another path";
    case EACCES:
    case EPERM:
      return "; change the permissions or choose another folder";
    case EROFS:
      return "; the file system is read-only: choose another folder";
    case ENOSPC:
    case EDQUOT:
      return "; free some space or choose another folder, then run again; files completed before are intact";
    case ELOOP:
      return "; its symbolic links lead in a circle: remove them or choose another path";
    case EBUSY:
      return "; it is in use, perhaps as a mount point: choose another path";
    case EFBIG:
      return "; the file system or a limit (ulimit -f) allows no larger file";
    case ENXIO:
      return "; nothing reads from it: choose another path";
    case EMFILE:
    case ENFILE:
      return "; too many open files: raise the limit (ulimit -n)";
    default:
      return "";
  }
}

/// Throws IoError: "[operation] path: text of errno; advice".
[[noreturn]] inline void fail_io(const char* operation, const std::string& path, int code) {
  fail<IoError>("[", operation, "] ", path, ": ", std::generic_category().message(code), io_advice(code));
}

/// Owns a file descriptor.
class FileDescriptor {
 public:
  FileDescriptor() = default;
  explicit FileDescriptor(int fd) : fd_(fd) {}
  FileDescriptor(FileDescriptor&& o) noexcept : fd_(o.release()) {}
  FileDescriptor& operator=(FileDescriptor&& o) noexcept {
    if (this != &o) reset(o.release());
    return *this;
  }
  FileDescriptor(const FileDescriptor&) = delete;
  FileDescriptor& operator=(const FileDescriptor&) = delete;
  ~FileDescriptor() { reset(); }

  int get() const { return fd_; }
  explicit operator bool() const { return fd_ >= 0; }
  int release() {
    const int fd = fd_;
    fd_ = -1;
    return fd;
  }
  void reset(int fd = -1) {
    if (fd_ >= 0) ::close(fd_);
    fd_ = fd;
  }

 private:
  int fd_ = -1;
};

/// open(2), repeated when interrupted. The descriptor is empty on failure, errno says why.
inline FileDescriptor open_descriptor(const std::string& path, int flags, int mode = 0666) {
  int fd = -1;
  do fd = ::open(path.c_str(), flags | O_CLOEXEC, mode);
  while (fd < 0 && errno == EINTR);
  return FileDescriptor{fd};
}

/// Opens a regular file for reading; folders, devices and missing files are refused. `bytes` receives its size.
inline FileDescriptor open_regular_file(const char* operation, const std::string& path, std::size_t& bytes) {
  FileDescriptor fd =
      open_descriptor(path, O_RDONLY | O_NONBLOCK);  // NONBLOCK: a FIFO must not hang before it is refused
  if (!fd) fail_io(operation, path, errno);
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0) fail_io(operation, path, errno);
  if (S_ISDIR(status.st_mode)) fail_io(operation, path, EISDIR);
  require<IoError>(S_ISREG(status.st_mode), "[", operation, "] ", path, ": not a regular file");
  bytes = static_cast<std::size_t>(status.st_size);
  return fd;
}

/// Writes all of [data, data + n).
inline void write_all(const char* operation, int fd, const void* data, std::size_t n, const std::string& path) {
  const char* at = static_cast<const char*>(data);
  while (n != 0) {
    if (const int fault = fault_point("write"); fault != 0) fail_io(operation, path, fault);
    const std::size_t piece =
        n < (std::size_t{1} << 30) ? n : std::size_t{1} << 30;  // Linux writes at most 2 GiB a call
    const ssize_t done = ::write(fd, at, piece);
    if (done < 0 && errno == EINTR) continue;
    if (done < 0) fail_io(operation, path, errno);
    if (done == 0) fail_io(operation, path, EIO);
    at += done;
    n -= static_cast<std::size_t>(done);
  }
}

inline void sync_descriptor(const char* operation, int fd, const std::string& path) {
  if (const int fault = fault_point("fsync"); fault != 0) fail_io(operation, path, fault);
  int status = -1;
  do status = ::fsync(fd);
  while (status != 0 && errno == EINTR);
  if (status != 0) fail_io(operation, path, errno);
}

/// Closes a descriptor whose bytes went straight to a device, a FIFO or a file that somebody else opened; a remote disk
/// may report only now that it is full.
inline void close_descriptor(const char* operation, int fd, const std::string& path) {
  if (::close(fd) != 0 && errno != EINTR) fail_io(operation, path, errno);
}

/// Makes a rename or a new name in the folder last. File systems that cannot sync a folder are taken as they are.
inline void sync_folder(const char* operation, const std::string& folder) {
  const FileDescriptor fd = open_descriptor(folder, O_RDONLY | O_DIRECTORY);
  if (!fd) fail_io(operation, folder, errno);
  if (const int fault = fault_point("fsync"); fault != 0) fail_io(operation, folder, fault);
  int status = -1;
  do status = ::fsync(fd.get());
  while (status != 0 && errno == EINTR);
  if (status != 0 && errno != EINVAL && errno != ENOTSUP) fail_io(operation, folder, errno);
}

inline void rename_file(const char* operation, const std::string& from, const std::string& to) {
  if (const int fault = fault_point("rename"); fault != 0) fail_io(operation, to, fault);
  if (::rename(from.c_str(), to.c_str()) != 0) fail_io(operation, to, errno);
}

}  // namespace detail

KDLIB_NAMESPACE_END

#endif
