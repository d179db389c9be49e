// SPDX-License-Identifier: Apache-2.0
// Files that are either complete or not there: written under a temporary name, synced, renamed. And a log that only
// grows.
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
/// `path.tmp-<process id>-<number>` in the same folder; without commit() the destructor removes them. A process that is
/// killed leaves that file behind: remove_stale_temporaries() clears it.
///
/// A symbolic link is followed: the file that it points to is replaced (or made) in its own folder, and the link stays.
/// A file that is replaced keeps its permissions and, where the process may give it away, its owner. FIFOs, character
/// devices and the descriptors of this process (/dev/stdout, /dev/fd/3) cannot be replaced: the bytes go straight into
/// them, and commit() only writes out what is buffered.
///
/// IoError, naming the path and what to do: the disk is full, the folder is missing or not writable, a part of the path
/// is a file, the path is a folder, a block device, a read-only file or a circle of links.
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

  /// Writes what is buffered, syncs, renames over `path`, syncs the folder. To be called once.
  void commit();

  std::uint64_t bytes_written() const { return written_; }
  const std::string& path() const { return path_; }
  /// Where the bytes are before commit(); empty where they go straight into a device, a FIFO or a descriptor.
  const std::string& temporary_path() const { return temporary_; }

 private:
  void write_through(const void* data, std::size_t bytes);

  std::string path_, target_, temporary_, buffer_;  // target_: path_ with its links followed
  std::uint64_t written_ = 0;
  int fd_ = -1;
  bool failed_ = false;
};

/// The whole of `text` under `path`, as AtomicFile does it.
void write_file_atomically(const std::string& path, std::string_view text);

/// The whole file as bytes. IoError: missing, a folder, or longer than `limit` bytes.
std::string read_file(const std::string& path, std::uint64_t limit = std::uint64_t{1} << 32);

namespace detail {
/// What /proc/PID/stat says behind the program's name: " S 1 17 …", the state, the parent and so on with a space before
/// each; empty where there is no such process or no /proc.
std::string process_fields(long pid);
/// True where no process has this id, or one that has ended and whose parent has not asked for it yet (in a container
/// whose first process asks for none, a killed process keeps its id for ever). Without /proc such a one still runs.
bool process_has_ended(long pid);
}  // namespace detail

/// Removes regular files `*.tmp-<pid>-<n>` of processes that no longer run; answers the names it removed. Folders and
/// links of such names are not touched. For the folder of a run that only one machine writes to.
std::vector<std::string> remove_stale_temporaries(const std::string& folder);

/// The same in `folder` and in every folder below it; symbolic links are not followed. Answers paths.
std::vector<std::string> remove_stale_temporaries_below(const std::string& folder);

/// A regular file that lines or bytes are appended to (metrics.jsonl), or a link to one. They are buffered; flush()
/// writes and syncs them. The destructor writes what is buffered but cannot report a failure: flush() before.
class AppendFile {
 public:
  explicit AppendFile(std::string path);
  AppendFile(AppendFile&& other) noexcept;
  AppendFile& operator=(AppendFile&&) = delete;
  AppendFile(const AppendFile&) = delete;
  AppendFile& operator=(const AppendFile&) = delete;
  ~AppendFile();

  /// Adds the text and a line feed. The text itself must not hold one.
  void write_line(std::string_view text);
  /// Adds the bytes and nothing else.
  void write_bytes(std::string_view bytes);
  void flush();

  /// Bytes in the file plus those still buffered.
  std::uint64_t size() const { return size_; }

  /// Cuts the file to its first `bytes` bytes, which must not be more than size(). Synced.
  void truncate(std::uint64_t bytes);

  const std::string& path() const { return path_; }

 private:
  void write_buffer();

  std::string path_, buffer_;
  std::uint64_t size_ = 0;
  int fd_ = -1;
};

namespace detail {
/// The process that a temporary file's name speaks of, 0 for other names.
long pid_of_temporary(std::string_view name);
/// Removes a temporary file of a process that is gone; false for any other file.
bool remove_if_stale(const std::string& path);
}  // namespace detail

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/io/atomic_file_inl.hpp"
#endif

#endif
