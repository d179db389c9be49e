// SPDX-License-Identifier: Apache-2.0
// Bodies of io/atomic_file.hpp.
#ifndef KDLIB_IO_ATOMIC_FILE_INL_HPP
#define KDLIB_IO_ATOMIC_FILE_INL_HPP

#include <csignal>

#include <atomic>
#include <utility>

#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/system_inl.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {
inline constexpr std::size_t write_buffer_bytes = std::size_t{1} << 18;

inline std::string temporary_name(const std::string& path) {
  static std::atomic<unsigned> number{0};
  return concat(path, ".tmp-", static_cast<long>(::getpid()), "-", ++number);
}

/// The process id in "name.tmp-<pid>-<n>", or 0 when the name has another form.
inline long pid_of_temporary(std::string_view name) {
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

inline AtomicFile::AtomicFile(std::string path) : path_(std::move(path)) {
  require<IoError>(!path_.empty(), "[write] the path is empty; name a file");
  if (is_directory(path_)) detail::fail_io("write", path_, EISDIR);
  temporary_ = detail::temporary_name(path_);
  detail::FileDescriptor fd = detail::open_descriptor(temporary_, O_WRONLY | O_CREAT | O_TRUNC);
  if (!fd) detail::fail_io("write", path_, errno);
  fd_ = fd.release();
}

inline AtomicFile::AtomicFile(AtomicFile&& other) noexcept
    : path_(std::move(other.path_)),
      temporary_(std::move(other.temporary_)),
      buffer_(std::move(other.buffer_)),
      written_(other.written_),
      fd_(std::exchange(other.fd_, -1)),
      failed_(other.failed_) {}

inline AtomicFile::~AtomicFile() {
  if (fd_ < 0) return;
  ::close(fd_);
  ::unlink(temporary_.c_str());
}

inline void AtomicFile::write(const void* data, std::size_t bytes) {
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

inline void AtomicFile::write_through(const void* data, std::size_t bytes) {
  require<IoError>(!failed_, "[write] ", path_, ": an earlier write failed, the file cannot be completed");
  failed_ = true;  // stays so when the next line throws: some of the bytes may be in the file
  detail::write_all("write", fd_, data, bytes, path_);
  failed_ = false;
}

inline void AtomicFile::commit() {
  require<IoError>(fd_ >= 0, "[write] ", path_, ": the file is committed already");
  write_through(buffer_.data(), buffer_.size());
  buffer_.clear();
  detail::sync_descriptor("write", fd_, path_);
  detail::rename_file("write", temporary_, path_);
  ::close(std::exchange(fd_, -1));  // after the rename: until then the destructor must remove the temporary file
  detail::sync_folder("write", parent_path(path_));
}

inline void write_file_atomically(const std::string& path, std::string_view text) {
  AtomicFile file{path};
  file.write(text);
  file.commit();
}

inline std::string read_file(const std::string& path, std::uint64_t limit) {
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

inline std::vector<std::string> remove_stale_temporaries(const std::string& folder) {
  std::vector<std::string> removed;
  for (const std::string& name : list_directory(folder)) {
    const long pid = detail::pid_of_temporary(name);
    if (pid <= 0 || ::kill(static_cast<pid_t>(pid), 0) == 0 || errno != ESRCH) continue;
    remove_tree(join_path(folder, name));
    removed.push_back(name);
  }
  return removed;
}

inline AppendFile::AppendFile(std::string path) : path_(std::move(path)) {
  detail::FileDescriptor fd = detail::open_descriptor(path_, O_WRONLY | O_CREAT | O_APPEND);
  if (!fd) detail::fail_io("append", path_, errno);
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0) detail::fail_io("append", path_, errno);
  require<IoError>(S_ISREG(status.st_mode), "[append] ", path_, ": not a regular file");
  size_ = static_cast<std::uint64_t>(status.st_size);
  fd_ = fd.release();
}

inline AppendFile::AppendFile(AppendFile&& other) noexcept
    : path_(std::move(other.path_)),
      buffer_(std::move(other.buffer_)),
      size_(other.size_),
      fd_(std::exchange(other.fd_, -1)) {}

inline AppendFile::~AppendFile() {
  if (fd_ < 0) return;
  try {
    write_buffer();
  } catch (...) {  // a destructor cannot report; flush() does
  }
  ::close(fd_);
}

inline void AppendFile::write_line(std::string_view text) {
  require<InputError>(text.find('\n') == std::string_view::npos, "[append] ", path_, ": a line holds a line feed");
  buffer_.append(text).push_back('\n');
  size_ += text.size() + 1;
  if (buffer_.size() >= detail::write_buffer_bytes) write_buffer();
}

inline void AppendFile::write_buffer() {
  const std::string pending =
      std::exchange(buffer_, {});  // a failed write is reported once, not again by the destructor
  detail::write_all("append", fd_, pending.data(), pending.size(), path_);
}

inline void AppendFile::flush() {
  write_buffer();
  detail::sync_descriptor("append", fd_, path_);
}

inline void AppendFile::truncate(std::uint64_t bytes) {
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
