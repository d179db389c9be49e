// SPDX-License-Identifier: Apache-2.0
// What keeps outputs of programs apart: a lock that one process holds on an output, and whether two paths are one
// place.
#ifndef KDLIB_TOOLS_OUTPUT_LOCK_HPP
#define KDLIB_TOOLS_OUTPUT_LOCK_HPP

#include <string>

#include "kdlib/core/error.hpp"

KDLIB_NAMESPACE_BEGIN

/// True where both paths lead to one file or folder, links followed; a path that is not there yet counts by its folder
/// and its name. Devices and FIFOs may be written to twice: they are not the same place.
bool same_place(const std::string& a, const std::string& b);
/// True where a file written at `path` would be `input` itself, or lie inside it.
bool would_replace(const std::string& path, const std::string& input);

/// Held while a program writes an output. A second process that wants the same output is refused at once (IoError).
/// A folder, which is made, is locked itself; a file by `path.lock`, which is gone afterwards. A folder that was made
/// and got nothing is gone, too.
class OutputLock {
 public:
  /// `program` as in "[convert] ", for the message. Removes what killed processes left of this output. IoError where
  /// the output could not be written: a missing folder, a folder in place of a file, no permission.
  static OutputLock folder(const std::string& path, const std::string& program);
  static OutputLock file(const std::string& path, const std::string& program);
  OutputLock(OutputLock&& other) noexcept;
  OutputLock& operator=(OutputLock&&) = delete;
  OutputLock(const OutputLock&) = delete;
  OutputLock& operator=(const OutputLock&) = delete;
  ~OutputLock();

 private:
  OutputLock() = default;

  std::string lock_file_;  // to be removed; empty for a folder
  std::string made_;       // the folder, where it was not there before
  int fd_ = -1;
};

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/output_lock_inl.hpp"
#endif

#endif
