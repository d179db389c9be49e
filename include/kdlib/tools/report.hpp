// SPDX-License-Identifier: Apache-2.0
// How a program ends on an error: the message on stderr and the exit status 1 (failed) or 2 (bad usage).
#ifndef KDLIB_TOOLS_REPORT_HPP
#define KDLIB_TOOLS_REPORT_HPP

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>

#include "kdlib/core/error.hpp"

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

/// Text of unknown origin (a tensor's name, a path) for a terminal: control characters, which could move the cursor or
/// change colours, become \\x1b and the like; line feeds and tabs stay. UTF-8 is not checked.
inline std::string terminal_text(std::string_view text) {
  static constexpr char hex[] = "0123456789abcdef";
  std::string out;
  for (std::size_t i = 0; i < text.size(); ++i) {
    const auto c = static_cast<unsigned char>(text[i]);
    const bool second = i + 1 < text.size();
    const auto next = second ? static_cast<unsigned char>(text[i + 1]) : 0u;
    if (c == 0xC2 && next >= 0x80 && next < 0xA0) {  // U+0080 to U+009F, control characters of eight bits
      ((out += "\\x") += hex[next >> 4]) += hex[next & 15u];
      ++i;
    } else if ((c < 0x20 && c != '\n' && c != '\t') || c == 0x7F) {
      ((out += "\\x") += hex[c >> 4]) += hex[c & 15u];
    } else {
      out += text[i];
    }
  }
  return out;
}

/// Writes out what stdout still buffers. `status`, or 1 with a message on stderr where a part of stdout was lost (a
/// full disk, a closed descriptor): the last call of a main that prints its result.
inline int flushed_output(int status) {
  const bool lost_before = std::ferror(stdout) != 0;
  errno = 0;
  if (std::fflush(stdout) == 0 && !lost_before) return status;
  const int code = errno;
  std::fprintf(stderr, "error: standard output could not be written%s%s\n", code != 0 ? ": " : "",
               code != 0 ? std::strerror(code) : "");
  return status != 0 ? status : 1;
}

/// Prints the error and returns the exit status: `catch (const kd::Error& error) { return kd::report(error); }`.
inline int report(const std::exception& error) {
  if (dynamic_cast<const HelpRequested*>(&error) != nullptr) {
    std::fputs(error.what(), stdout);
    return flushed_output(0);
  }
  std::fprintf(stderr, "error: %s\n", terminal_text(error.what()).c_str());
  return dynamic_cast<const UsageError*>(&error) != nullptr ? 2 : 1;
}

KDLIB_NAMESPACE_END

#endif
