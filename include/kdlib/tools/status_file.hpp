// SPDX-License-Identifier: Apache-2.0
// What a run is doing, in a file for programs that look on: distil --status-file.
#ifndef KDLIB_TOOLS_STATUS_FILE_HPP
#define KDLIB_TOOLS_STATUS_FILE_HPP

#include <cstdint>
#include <exception>
#include <string>

#include "kdlib/io/system_inl.hpp"
#include "kdlib/recipe/events.hpp"

KDLIB_NAMESPACE_BEGIN

/// JSON lines, the last of which is the state: {"phase", "done", "total"} with a phase of SessionPhase or `writing`
/// (done and total: texts), at most one line a second beside changes of phase; at the end {"phase": "ended", "status"}
/// and, where an error ended the run, `error` (its kind), `errno` (0: none) and `message`. Lines that find no room are
/// left out: a run does not end for those who look on. The file begins anew with each attempt and at 1 MiB.
class StatusFile final : public SessionEvents {
 public:
  /// IoError where the file cannot be made.
  explicit StatusFile(const std::string& path);
  StatusFile(const StatusFile&) = delete;
  StatusFile& operator=(const StatusFile&) = delete;

  void on_phase(SessionPhase phase) override { say(session_phase_name(phase), 0, 0); }
  void on_writing(const WritingReport& report) override;
  /// The program ends with that status.
  void ended(int status);
  /// The program ends with that error.
  void failed(const std::exception& error);

 private:
  void say(const char* phase, std::int64_t done, std::int64_t total);
  void write_line(std::string text, bool last);

  detail::FileDescriptor file_;
  std::int64_t size_ = 0;
  double said_ = 0;  // by the steady clock
  std::string phase_;
};

namespace detail {
/// What the status file calls an error of this type.
KDLIB_TOOLS_FUNC const char* error_kind(const std::exception& error);
}  // namespace detail

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/status_file_inl.hpp"
#endif

#endif
