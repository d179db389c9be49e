// SPDX-License-Identifier: Apache-2.0
// How a program ends: whether its output arrived, and on an error the message on stderr and the exit status 1 (failed)
// or 2 (bad usage).
#ifndef KDLIB_TOOLS_REPORT_HPP
#define KDLIB_TOOLS_REPORT_HPP

#include <cstdio>
#include <string>
#include <string_view>
#include <vector>

#include "kdlib/core/error.hpp"
#include "kdlib/io/utf8.hpp"

KDLIB_NAMESPACE_BEGIN

/// A command line or config file that cannot be used. `report` answers 2.
class UsageError : public Error {
 public:
  using Error::Error;
};

/// `--help` was given; the message is the help text. `report` prints it on stdout and answers 0.
class HelpRequested : public UsageError {
 public:
  using UsageError::UsageError;
};

/// Ends a program whose answer goes to stdout: `return kd::finish(status)`. Writes out what is buffered; where text was
/// lost (a full disk, a closed descriptor) a message goes to stderr and the status is 1 instead of 0.
inline int finish(int status = 0) {
  const bool written = std::fflush(stdout) == 0 && std::ferror(stdout) == 0;
  if (written) return status;
  std::fputs("error: stdout cannot be written; the output is not complete\n", stderr);
  return status == 0 ? 1 : status;
}

/// Text for a terminal, line by line: what is in file names, tensor names and messages must not steer it.
inline std::string terminal_text(std::string_view text) {
  std::string out;
  for (std::size_t end = 0; end != std::string_view::npos; text.remove_prefix(end + 1)) {
    end = text.find('\n');
    out += printable(text.substr(0, end), std::string_view::npos);
    if (end == std::string_view::npos) break;
    out += '\n';
  }
  return out;
}

/// Notes about what was read, on stderr; stdout is for the answer.
inline void show_notes(const std::vector<std::string>& notes) {
  for (const std::string& note : notes) std::fprintf(stderr, "note: %s\n", terminal_text(note).c_str());
}

/// Prints the error and returns the exit status: `catch (const kd::Error& error) { return kd::report(error); }`.
inline int report(const std::exception& error) {
  if (dynamic_cast<const HelpRequested*>(&error) != nullptr) {
    std::fputs(error.what(), stdout);
    return finish();
  }
  std::fprintf(stderr, "error: %s\n", terminal_text(error.what()).c_str());
  return dynamic_cast<const UsageError*>(&error) != nullptr ? 2 : 1;
}

KDLIB_NAMESPACE_END

#endif
