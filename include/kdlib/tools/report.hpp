// SPDX-License-Identifier: Apache-2.0
// How a program ends: whether its output arrived, and on an error the message on stderr and the exit status: 2 where
// the command line, a config file or settings cannot be used, 1 for what failed while working.
#ifndef KDLIB_TOOLS_REPORT_HPP
#define KDLIB_TOOLS_REPORT_HPP

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>
#include <vector>

#include "kdlib/core/settings_error.hpp"
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
  const bool lost_before = std::ferror(stdout) != 0;
  errno = 0;
  if (std::fflush(stdout) == 0 && !lost_before) return status;
  const int code = errno;
  std::fprintf(stderr, "error: standard output could not be written%s%s; the output is not complete\n",
               code != 0 ? ": " : "", code != 0 ? std::strerror(code) : "");
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

/// True for errors of usage and settings, found before any work began.
inline bool is_usage_error(const std::exception& error) {
  return dynamic_cast<const UsageError*>(&error) != nullptr || dynamic_cast<const SettingsError*>(&error) != nullptr;
}

/// Prints the error and returns the exit status: `catch (const kd::Error& error) { return kd::report(error); }`.
inline int report(const std::exception& error) {
  if (dynamic_cast<const HelpRequested*>(&error) != nullptr) {
    std::fputs(error.what(), stdout);
    return finish();
  }
  constexpr std::size_t most = 8000;  // a template, say, may raise megabytes
  const std::string_view what = error.what();
  const std::string_view shown = whole_characters(what, most);
  const std::string left_out =
      shown.size() < what.size() ? concat(" ... (", what.size() - shown.size(), " bytes more)") : "";
  std::fprintf(stderr, "error: %s%s\n", terminal_text(shown).c_str(), left_out.c_str());
  return is_usage_error(error) ? 2 : 1;
}

KDLIB_NAMESPACE_END

#endif
