// SPDX-License-Identifier: Apache-2.0
// Files that are either complete or absent: the bytes are written under a temporary name, synced and then renamed. The
// second class is a log that only grows.
#ifndef KDLIB_IO_ATOMIC_FILE_HPP
#define KDLIB_IO_ATOMIC_FILE_HPP

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kdlib/io/paths.hpp"

KDLIB_NAMESPACE_BEGIN

/// A new file that appears under its name all at once. Between the constructor and commit() the bytes are in
/// `path.tmp-<process id>-<number>` in the same folder. Without commit() the destructor removes this temporary file. A
/// process that is killed leaves its temporary file behind; remove_stale_temporaries() removes such files.
///
/// If `path` is a symbolic link, the link stays and the file that the link points to is replaced (or made) in its own
/// folder. A file that replaces another one keeps the permissions of the old file and, if the process may change the
/// owner, its owner. FIFOs, character devices and the descriptors of this process (/dev/stdout, /dev/fd/3) cannot be
/// replaced: the bytes go straight into them, and commit() only writes the buffered bytes.
///
/// Throws IoError, which names the path and what to do, if the disk is full, if the folder is missing or not writable,
/// if a part of the path is a file, or if the path is a folder, a block device, a read-only file or a circle of links.
class AtomicFile {
 public:
  explicit AtomicFile(std::string path);
  AtomicFile(AtomicFile&& other) noexcept;
  AtomicFile& operator=(AtomicFile&&) = delete;
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  ~AtomicFile();

  void write(const void* data, std::size_t bytes);
  void write(std::string_view text) { write(text.data(), text.size()); }

  /// Writes the buffered bytes, syncs the file, renames it to `path` and syncs the folder. May be called once.
  void commit();

  std::uint64_t bytes_written() const { return written_; }
  const std::string& path() const { return path_; }
  /// The temporary file that holds the bytes before commit(). Empty if the bytes go straight into a device, a FIFO or a
  /// descriptor.
  const std::string& temporary_path() const { return temporary_; }

 private:
  void write_through(const void* data, std::size_t bytes);

  std::string path_, target_, temporary_, buffer_;  // target_: path_ with its links followed
  std::uint64_t written_ = 0;
  int fd_ = -1;
  bool failed_ = false;
};

/// Writes `text` as the whole content of the file `path`, through an AtomicFile.
void write_file_atomically(const std::string& path, std::string_view text);

/// Returns the whole file as bytes. Throws IoError if the file is missing, is not a regular file or is longer than
/// `limit` bytes.
std::string read_file(const std::string& path, std::uint64_t limit = std::uint64_t{1} << 32);

namespace detail {
/// Returns what /proc/PID/stat says behind the program's name: " S 1 17 ...", that is the state, the parent and the
/// other fields, each with a space before it. Empty if there is no such process or no /proc.
std::string process_fields(long pid);
/// True if no process has this id, or if the process has ended but its parent has not yet asked for its exit status.
/// (In a container whose first process never asks, a killed process keeps its id for ever.) Without /proc such a
/// process counts as running.
bool process_has_ended(long pid);
}  // namespace detail

/// Removes regular files `*.tmp-<pid>-<n>` whose process no longer runs and returns their names. Folders and links with
/// such names stay. Use it only for a folder that processes of one machine alone write to.
std::vector<std::string> remove_stale_temporaries(const std::string& folder);

/// Does the same in `folder` and in every folder below it, without following symbolic links. Returns paths.
std::vector<std::string> remove_stale_temporaries_below(const std::string& folder);

/// A regular file (or a link to one) to which lines or bytes are appended, such as metrics.jsonl. What is appended is
/// buffered; flush() writes and syncs the buffer. The destructor writes the buffer too but cannot report a failure, so
/// call flush() first.
class AppendFile {
 public:
  explicit AppendFile(std::string path);
  AppendFile(AppendFile&& other) noexcept;
  AppendFile& operator=(AppendFile&&) = delete;
  AppendFile(const AppendFile&) = delete;
  AppendFile& operator=(const AppendFile&) = delete;
  ~AppendFile();

  /// Adds the text and a line feed. Throws InputError if the text itself holds a line feed.
  void write_line(std::string_view text);
  /// Adds the bytes without a line feed.
  void write_bytes(std::string_view bytes);
  void flush();

  /// Bytes in the file plus bytes that are still buffered.
  std::uint64_t size() const { return size_; }

  /// Cuts the file to its first `bytes` bytes and syncs it. Throws IoError if `bytes` is more than size().
  void truncate(std::uint64_t bytes);

  const std::string& path() const { return path_; }

 private:
  void write_buffer();

  std::string path_, buffer_;
  std::uint64_t size_ = 0;
  int fd_ = -1;
};

namespace detail {
/// Returns the process id in the name of a temporary file, or 0 for a name of another form.
long pid_of_temporary(std::string_view name);
/// Removes the file and returns true if it is a temporary file of a process that has ended; else returns false.
bool remove_if_stale(const std::string& path);
}  // namespace detail

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/io/atomic_file_inl.hpp"
#endif

#endif
