// SPDX-License-Identifier: Apache-2.0
// Keeps the outputs of programs apart: a lock that one process holds on an output, and a check whether two paths are
// the same place.
#ifndef KDLIB_TOOLS_OUTPUT_LOCK_HPP
#define KDLIB_TOOLS_OUTPUT_LOCK_HPP

#include <string>

#include "kdlib/core/error.hpp"

KDLIB_NAMESPACE_BEGIN

/// True if both paths lead to the same file or folder after following links. A path that does not exist yet is compared
/// by its folder and its name. Devices and FIFOs may be written by several writers and never count as the same place.
bool same_place(const std::string& a, const std::string& b);
/// True if a file written at `path` would be `input` itself, or would be inside `input`.
bool would_replace(const std::string& path, const std::string& input);

/// A lock that a program holds while it writes an output. A second process that wants the same output is refused at
/// once (IoError). A folder is made if necessary and locked itself. A file is locked by `path.lock`, which is removed
/// afterwards. A folder that was made and stayed empty is removed, too.
class OutputLock {
 public:
  /// Takes the lock and removes temporary files that killed processes left for this output. `program`, for example
  /// "[convert] ", begins the message. IoError: another process holds the lock, or the output could not be written (a
  /// folder is missing, a folder stands in place of a file, or a permission is missing).
  static OutputLock folder(const std::string& path, const std::string& program);
  static OutputLock file(const std::string& path, const std::string& program);
  OutputLock(OutputLock&& other) noexcept;
  OutputLock& operator=(OutputLock&&) = delete;
  OutputLock(const OutputLock&) = delete;
  OutputLock& operator=(const OutputLock&) = delete;
  ~OutputLock();

 private:
  OutputLock() = default;

  std::string lock_file_;  // file that is removed at the end; empty for a folder
  std::string made_;       // the folder, if it did not exist before
  int fd_ = -1;
};

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/output_lock_inl.hpp"
#endif

#endif
