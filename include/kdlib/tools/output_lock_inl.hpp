// SPDX-License-Identifier: Apache-2.0
// Bodies of output_lock.hpp.
#ifndef KDLIB_TOOLS_OUTPUT_LOCK_INL_HPP
#define KDLIB_TOOLS_OUTPUT_LOCK_INL_HPP

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <utility>

#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/paths.hpp"
#include "kdlib/tools/output_lock.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_TOOLS_FUNC bool same_place(const std::string& a, const std::string& b) {
  struct stat x {
  }, y{};
  const bool has_a = ::stat(a.c_str(), &x) == 0, has_b = ::stat(b.c_str(), &y) == 0;
  const auto same = [&] { return x.st_dev == y.st_dev && x.st_ino == y.st_ino; };
  if (has_a && has_b) return same() && (S_ISREG(x.st_mode) || S_ISDIR(x.st_mode));
  if (has_a != has_b || file_name(a) != file_name(b)) return false;
  if (::stat(parent_path(a).c_str(), &x) != 0 || ::stat(parent_path(b).c_str(), &y) != 0) return a == b;
  return same();
}

KDLIB_TOOLS_FUNC bool would_replace(const std::string& path, const std::string& input) {
  return !path.empty() && !input.empty() && path_exists(input) &&
         detail::lies_in(detail::resolved_path(path), detail::resolved_path(input));
}

KDLIB_TOOLS_FUNC OutputLock OutputLock::folder(const std::string& path, const std::string& program) {
  OutputLock lock;
  if (!path_exists(path)) lock.made_ = path;
  make_directories(path);
  lock.fd_ = ::open(path.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  require<IoError>(lock.fd_ >= 0, program, path, " cannot be opened as a folder");
  require<IoError>(::flock(lock.fd_, LOCK_EX | LOCK_NB) == 0, program, path,
                   " is being written by another process; wait for it or choose another --out");
  remove_stale_temporaries(path);
  return lock;
}

KDLIB_TOOLS_FUNC OutputLock OutputLock::file(const std::string& path, const std::string& program) {
  OutputLock lock;
  struct stat target {};
  const bool there = ::stat(path.c_str(), &target) == 0;
  if (there && (S_ISFIFO(target.st_mode) || S_ISCHR(target.st_mode))) {  // no place to mix in
    require<IoError>(::access(path.c_str(), W_OK) == 0, program, path, " cannot be written; choose another path");
    return lock;
  }
  const std::string place = detail::resolved_path(parent_path(path)) + "/";
  if (place.starts_with("/dev/") || place.starts_with("/proc/")) return lock;  // a descriptor, as /dev/stdout
  if (there && !S_ISREG(target.st_mode)) AtomicFile refused(path);             // says what it is instead of a file
  lock.lock_file_ = path + ".lock";
  for (;;) {
    lock.fd_ = ::open(lock.lock_file_.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (lock.fd_ < 0) lock.lock_file_.clear();
    require<IoError>(lock.fd_ >= 0, program, path, ".lock cannot be made; is the folder there and writable?");
    if (::flock(lock.fd_, LOCK_EX | LOCK_NB) != 0) {
      lock.lock_file_.clear();  // it belongs to the other process
      fail<IoError>(program, path, " is being written by another process; wait for it or choose another --out");
    }
    struct stat held {
    }, named{};
    if (::fstat(lock.fd_, &held) == 0 && ::stat(lock.lock_file_.c_str(), &named) == 0 && held.st_ino == named.st_ino)
      break;
    ::close(lock.fd_);  // its last owner removed it meanwhile
  }
  const std::string folder = parent_path(path), prefix = file_name(path) + ".tmp-";
  for (const std::string& name : list_directory(folder))
    if (name.starts_with(prefix)) detail::remove_if_stale(join_path(folder, name));
  const AtomicFile probe(path);  // what cannot be written is refused now, not after the work
  return lock;
}

KDLIB_TOOLS_FUNC OutputLock::OutputLock(OutputLock&& other) noexcept
    : lock_file_(std::exchange(other.lock_file_, {})),
      made_(std::exchange(other.made_, {})),
      fd_(std::exchange(other.fd_, -1)) {}

KDLIB_TOOLS_FUNC OutputLock::~OutputLock() {
  if (!lock_file_.empty()) ::unlink(lock_file_.c_str());
  if (!made_.empty()) ::rmdir(made_.c_str());  // which an output in it prevents
  if (fd_ >= 0) ::close(fd_);
}

KDLIB_NAMESPACE_END

#endif
