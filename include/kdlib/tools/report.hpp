// SPDX-License-Identifier: Apache-2.0
// How a program ends: whether its output arrived, and on an error the message on stderr and the exit status: 2 where
// the command line, a config file or settings cannot be used, 1 for what failed while working.
#ifndef KDLIB_TOOLS_REPORT_HPP
#define KDLIB_TOOLS_REPORT_HPP

#include <exception>
#include <string>
#include <string_view>
#include <vector>

#include "kdlib/core/settings_error.hpp"

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
int finish(int status = 0);

/// Text for a terminal, line by line: what is in file names, tensor names and messages must not steer it.
std::string terminal_text(std::string_view text);

/// Notes about what was read, on stderr; stdout is for the answer.
void show_notes(const std::vector<std::string>& notes);

/// True for errors of usage and settings, found before any work began.
bool is_usage_error(const std::exception& error);

/// Prints the error and returns the exit status: `catch (const kd::Error& error) { return kd::report(error); }`.
int report(const std::exception& error);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/tools/report_inl.hpp"
#endif

#endif
