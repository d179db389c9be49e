// SPDX-License-Identifier: Apache-2.0
// Bodies of io/atomic_file.hpp.
#ifndef KDLIB_IO_ATOMIC_FILE_INL_HPP
#define KDLIB_IO_ATOMIC_FILE_INL_HPP

#include <csignal>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/system_inl.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {
inline constexpr std::size_t write_buffer_bytes = std::size_t{1} << 18;

/// "<target>.tmp-<process id>-<number>"; a file name that leaves no room for the ending is shortened in front of it.
KDLIB_FUNC std::string temporary_name(const std::string& target) {
  static std::atomic<unsigned> number{0};
  constexpr std::size_t longest_name = 255;  // bytes, of Linux' file systems
  const std::string ending = concat(".tmp-", static_cast<long>(::getpid()), "-", ++number);
  const std::size_t name = file_name(target).size(), cut = name + ending.size() > longest_name && name <= longest_name
                                                               ? name + ending.size() - longest_name
                                                               : 0;
  return target.substr(0, target.size() - cut) + ending;
}

/// Makes the temporary file beside the target. It must be new: a planted file or link of its name is never written to.
KDLIB_FUNC FileDescriptor make_temporary(const std::string& target, std::string& name) {
  FileDescriptor fd;
  for (int attempt = 0; attempt < 1000; ++attempt) {
    name = temporary_name(target);
    fd = open_descriptor(name, O_WRONLY | O_CREAT | O_EXCL);
    if (fd || errno != EEXIST) break;  // EEXIST: left by a killed process that had this one's number
  }
  return fd;
}

/// The number in "/dev/stdout", "/dev/fd/3" or "/proc/self/fd/3" where it is a descriptor of this process, or -1.
KDLIB_FUNC int own_descriptor(const std::string& path) {
  char* folder = ::realpath(parent_path(path).c_str(), nullptr);
  const std::string place = folder == nullptr ? std::string() : folder;
  ::free(folder);
  if (place != concat("/proc/", static_cast<long>(::getpid()), "/fd")) return -1;
  const std::string name = file_name(path);
  if (name.empty() || name.size() > 6 || name.find_first_not_of("0123456789") != std::string::npos) return -1;
  return std::atoi(name.c_str());
}

/// What a path leads to, with symbolic links followed one by one: the file need not be there.
struct WriteTarget {
  std::string path;
  struct stat status {};  // where `exists`
  bool exists = false;
  int descriptor = -1;  // of this process, where the path names one
};

KDLIB_FUNC WriteTarget write_target(const std::string& path) {
  WriteTarget out;
  out.path = path;
  for (int links = 0; links <= 40; ++links) {
    out.descriptor = own_descriptor(out.path);
    if (out.descriptor >= 0) return out;
    out.exists = ::lstat(out.path.c_str(), &out.status) == 0;
    if (!out.exists && errno != ENOENT) fail_io("write", path, errno);
    if (!out.exists || !S_ISLNK(out.status.st_mode)) return out;
    char to[4096];
    const ssize_t size = ::readlink(out.path.c_str(), to, sizeof to);
    if (size < 0) fail_io("write", path, errno);
    out.path = join_path(parent_path(out.path), std::string_view(to, static_cast<std::size_t>(size)));
  }
  fail_io("write", path, ELOOP);
}

/// Gives a new file the permissions of the one that it replaces. Where the owner cannot be kept, bits that lend the
/// owner's rights are not kept either.
KDLIB_FUNC void keep_permissions(int fd, const struct stat& before, const std::string& path) {
  struct stat now {};
  if (::fstat(fd, &now) != 0) fail_io("write", path, errno);
  const bool same = now.st_uid == before.st_uid && now.st_gid == before.st_gid;
  const bool owned = same || ::fchown(fd, before.st_uid, before.st_gid) == 0;
  if (::fchmod(fd, before.st_mode & (owned ? 07777u : 0777u)) != 0) fail_io("write", path, errno);
}

/// The process id in "name.tmp-<pid>-<n>", or 0 when the name has another form.
KDLIB_FUNC long pid_of_temporary(std::string_view name) {
  const std::size_t mark = name.rfind(".tmp-");
  if (mark == std::string_view::npos) return 0;
  long pid = 0;
  std::size_t i = mark + 5;
  for (; i < name.size() && name[i] >= '0' && name[i] <= '9' && pid < 100'000'000; ++i)
    pid = pid * 10 + (name[i] - '0');
  if (i == mark + 5 || i + 1 >= name.size() || name[i] != '-') return 0;
  for (++i; i < name.size(); ++i)
    if (name[i] < '0' || name[i] > '9') return 0;
  return pid;
}
}  // namespace detail

KDLIB_FUNC AtomicFile::AtomicFile(std::string path) : path_(std::move(path)) {
  require<IoError>(!path_.empty(), "[write] the path is empty; name a file");
  const detail::WriteTarget target = detail::write_target(path_);
  target_ = target.path;
  if (target_.back() == '/' || (target.exists && S_ISDIR(target.status.st_mode)))
    detail::fail_io("write", path_, EISDIR);
  detail::FileDescriptor fd;
  if (target.descriptor >= 0) {
    if (target.descriptor == STDOUT_FILENO) std::fflush(stdout);  // what was printed before stands before
    fd.reset(::fcntl(target.descriptor, F_DUPFD_CLOEXEC, 3));
  } else if (target.exists && !S_ISREG(target.status.st_mode)) {
    require<IoError>(S_ISFIFO(target.status.st_mode) || S_ISCHR(target.status.st_mode), "[write] ", path_,
                     ": neither a file, a FIFO nor a character device; name a file");
    fd = detail::open_descriptor(target_, O_WRONLY);  // waits for the reader of a FIFO
  } else {
    if (target.exists && ::faccessat(AT_FDCWD, target_.c_str(), W_OK, AT_EACCESS) != 0)
      detail::fail_io("write", path_, errno);  // a rename would replace a read-only file
    fd = detail::make_temporary(target_, temporary_);
    if (fd && target.exists) {
      try {
        detail::keep_permissions(fd.get(), target.status, path_);
      } catch (...) {
        ::unlink(temporary_.c_str());
        throw;
      }
    }
  }
  if (!fd) detail::fail_io("write", path_, errno);
  fd_ = fd.release();
}

KDLIB_FUNC AtomicFile::AtomicFile(AtomicFile&& other) noexcept
    : path_(std::move(other.path_)),
      target_(std::move(other.target_)),
      temporary_(std::move(other.temporary_)),
      buffer_(std::move(other.buffer_)),
      written_(other.written_),
      fd_(std::exchange(other.fd_, -1)),
      failed_(other.failed_) {}

KDLIB_FUNC AtomicFile::~AtomicFile() {
  if (fd_ < 0) return;
  ::close(fd_);
  if (!temporary_.empty()) ::unlink(temporary_.c_str());
}

KDLIB_FUNC void AtomicFile::write(const void* data, std::size_t bytes) {
  require<IoError>(fd_ >= 0, "[write] ", path_, ": the file is committed already");
  written_ += bytes;
  if (buffer_.size() + bytes >= detail::write_buffer_bytes) {
    write_through(buffer_.data(), buffer_.size());
    buffer_.clear();
  }
  if (bytes >= detail::write_buffer_bytes) {
    write_through(data, bytes);
  } else if (bytes != 0) {
    buffer_.append(static_cast<const char*>(data), bytes);
  }
}

KDLIB_FUNC void AtomicFile::write_through(const void* data, std::size_t bytes) {
  require<IoError>(!failed_, "[write] ", path_, ": an earlier write failed, the file cannot be completed");
  failed_ = true;  // stays so when the next line throws: some of the bytes may be in the file
  detail::write_all("write", fd_, data, bytes, path_);
  failed_ = false;
}

KDLIB_FUNC void AtomicFile::commit() {
  require<IoError>(fd_ >= 0, "[write] ", path_, ": the file is committed already");
  write_through(buffer_.data(), buffer_.size());
  buffer_.clear();
  if (temporary_.empty()) return detail::close_descriptor("write", std::exchange(fd_, -1), path_);
  detail::sync_descriptor("write", fd_, path_);
  detail::rename_file("write", temporary_, target_);
  ::close(std::exchange(fd_, -1));  // after the rename: until then the destructor must remove the temporary file
  detail::sync_folder("write", parent_path(target_));
}

KDLIB_FUNC void write_file_atomically(const std::string& path, std::string_view text) {
  AtomicFile file{path};
  file.write(text);
  file.commit();
}

KDLIB_FUNC std::string read_file(const std::string& path, std::uint64_t limit) {
  std::size_t bytes = 0;
  const detail::FileDescriptor fd = detail::open_regular_file("read", path, bytes);
  require<IoError>(bytes <= limit, "[read] ", path, ": ", bytes, " bytes are above the limit of ", limit);
  std::string text(bytes, '\0');
  std::size_t done = 0;
  while (done < bytes) {
    const ssize_t got = ::read(fd.get(), text.data() + done, bytes - done);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) detail::fail_io("read", path, errno);
    if (got == 0) break;  // shortened while it was read
    done += static_cast<std::size_t>(got);
  }
  text.resize(done);
  return text;
}

namespace detail {
KDLIB_FUNC std::string process_fields(long pid) {
  const FileDescriptor fd = open_descriptor(concat("/proc/", pid, "/stat"), O_RDONLY);
  char text[1024];
  const ssize_t got = fd ? ::read(fd.get(), text, sizeof text) : -1;
  const std::string_view line{text, got > 0 ? static_cast<std::size_t>(got) : 0};
  const std::size_t name_end = line.rfind(')');  // the program's name before it may hold any letter
  return name_end == std::string_view::npos ? std::string() : std::string(line.substr(name_end + 1));
}

KDLIB_FUNC bool process_has_ended(long pid) {
  if (::kill(static_cast<pid_t>(pid), 0) != 0) return errno == ESRCH;
  const std::string fields = process_fields(pid);
  return fields.size() > 1 && (fields[1] == 'Z' || fields[1] == 'X');
}

/// Removes the file if it is what a process that has ended left of an AtomicFile.
KDLIB_FUNC bool remove_if_stale(const std::string& path) {
  const long pid = pid_of_temporary(file_name(path));
  if (pid <= 0 || !process_has_ended(pid)) return false;
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0 || !S_ISREG(status.st_mode)) return false;
  remove_tree(path);
  return true;
}
KDLIB_FUNC bool is_folder_itself(const std::string& path) {
  struct stat status {};
  return ::lstat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}
}  // namespace detail

KDLIB_FUNC std::vector<std::string> remove_stale_temporaries(const std::string& folder) {
  std::vector<std::string> removed;
  for (const std::string& name : list_directory(folder))
    if (detail::remove_if_stale(join_path(folder, name))) removed.push_back(name);
  return removed;
}

KDLIB_FUNC std::vector<std::string> remove_stale_temporaries_below(const std::string& folder) {
  std::vector<std::string> removed, open{folder};
  while (!open.empty()) {
    const std::string at = std::move(open.back());
    open.pop_back();
    for (const std::string& name : list_directory(at)) {
      std::string path = join_path(at, name);
      if (detail::is_folder_itself(path)) open.push_back(std::move(path));
      else if (detail::remove_if_stale(path)) removed.push_back(std::move(path));
    }
  }
  return removed;
}

KDLIB_FUNC AppendFile::AppendFile(std::string path) : path_(std::move(path)) {
  // NONBLOCK: a FIFO must not hang before it is refused.
  detail::FileDescriptor fd = detail::open_descriptor(path_, O_WRONLY | O_CREAT | O_APPEND | O_NONBLOCK);
  require<IoError>(fd || errno != ENXIO, "[append] ", path_, ": not a regular file");
  if (!fd) detail::fail_io("append", path_, errno);
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0) detail::fail_io("append", path_, errno);
  require<IoError>(S_ISREG(status.st_mode), "[append] ", path_, ": not a regular file");
  size_ = static_cast<std::uint64_t>(status.st_size);
  fd_ = fd.release();
}

KDLIB_FUNC AppendFile::AppendFile(AppendFile&& other) noexcept
    : path_(std::move(other.path_)),
      buffer_(std::move(other.buffer_)),
      size_(other.size_),
      fd_(std::exchange(other.fd_, -1)) {}

KDLIB_FUNC AppendFile::~AppendFile() {
  if (fd_ < 0) return;
  try {
    write_buffer();
  } catch (...) {  // a destructor cannot report; flush() does
  }
  ::close(fd_);
}

KDLIB_FUNC void AppendFile::write_line(std::string_view text) {
  require<InputError>(text.find('\n') == std::string_view::npos, "[append] ", path_, ": a line holds a line feed");
  buffer_.append(text).push_back('\n');
  size_ += text.size() + 1;
  if (buffer_.size() >= detail::write_buffer_bytes) write_buffer();
}

KDLIB_FUNC void AppendFile::write_bytes(std::string_view bytes) {
  buffer_.append(bytes);
  size_ += bytes.size();
  if (buffer_.size() >= detail::write_buffer_bytes) write_buffer();
}

KDLIB_FUNC void AppendFile::write_buffer() {
  const std::string pending =
      std::exchange(buffer_, {});  // a failed write is reported once, not again by the destructor
  detail::write_all("append", fd_, pending.data(), pending.size(), path_);
}

KDLIB_FUNC void AppendFile::flush() {
  write_buffer();
  detail::sync_descriptor("append", fd_, path_);
}

KDLIB_FUNC void AppendFile::truncate(std::uint64_t bytes) {
  require<IoError>(bytes <= size_, "[append] ", path_, ": cannot cut to ", bytes, " bytes, it has only ", size_);
  write_buffer();
  int status = -1;
  do status = ::ftruncate(fd_, static_cast<off_t>(bytes));
  while (status != 0 && errno == EINTR);
  if (status != 0) detail::fail_io("append", path_, errno);
  size_ = bytes;
  detail::sync_descriptor("append", fd_, path_);
}

KDLIB_NAMESPACE_END

#endif
