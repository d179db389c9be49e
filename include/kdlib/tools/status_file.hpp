// SPDX-License-Identifier: Apache-2.0
// Writes what a run is doing into a file, for other programs that watch the run: distil --status-file.
#ifndef KDLIB_TOOLS_STATUS_FILE_HPP
#define KDLIB_TOOLS_STATUS_FILE_HPP

#include <cstdint>
#include <exception>
#include <string>

#include "kdlib/io/system_inl.hpp"
#include "kdlib/recipe/events.hpp"

KDLIB_NAMESPACE_BEGIN

/// A file of JSON lines; the last line is the present state. A line is {"phase", "done", "total"}, with a phase of
/// SessionPhase or `writing` (done and total then count texts). Apart from changes of phase there is at most one line
/// in a second. The last line of a run is {"phase": "ended", "status"}; if an error ended the run, it also has `error`
/// (the kind of error), `errno` (0: none) and `message`. A line for which the disk has no room is left out, because a
/// run must not end for its watchers. The file is emptied at the start of each attempt and when it reaches 1 MiB.
class StatusFile final : public SessionEvents {
 public:
  /// IoError: the file cannot be made.
  explicit StatusFile(const std::string& path);
  StatusFile(const StatusFile&) = delete;
  StatusFile& operator=(const StatusFile&) = delete;

  void on_phase(SessionPhase phase) override { say(session_phase_name(phase), 0, 0); }
  void on_writing(const WritingReport& report) override;
  /// Writes that the program ends with this exit status.
  void ended(int status);
  /// Writes that the program ends with this error.
  void failed(const std::exception& error);

 private:
  void say(const char* phase, std::int64_t done, std::int64_t total);
  void write_line(std::string text, bool last);

  detail::FileDescriptor file_;
  std::int64_t size_ = 0;
  double said_ = 0;  // time of the last line of phase `writing`, in seconds of the steady clock
  std::string phase_;
};

namespace detail {
/// Returns the status file's name for an error of this type.
KDLIB_TOOLS_FUNC const char* error_kind(const std::exception& error);
}  // namespace detail

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/status_file_inl.hpp"
#endif

#endif
