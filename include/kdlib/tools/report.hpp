// SPDX-License-Identifier: Apache-2.0
// The end of a program: a check whether its output arrived and, after an error, the message on stderr and the exit
// status. The status is 2 if the command line, a config file or settings cannot be used, and 1 if something failed
// during the work.
#ifndef KDLIB_TOOLS_REPORT_HPP
#define KDLIB_TOOLS_REPORT_HPP

#include <exception>
#include <string>
#include <string_view>
#include <vector>

#include "kdlib/core/settings_error.hpp"

KDLIB_NAMESPACE_BEGIN

/// Thrown if a command line or config file cannot be used. `report` returns 2 for it.
class UsageError : public Error {
 public:
  using Error::Error;
};

/// Thrown if `--help` was given. The message is the help text; `report` prints it on stdout and returns 0.
class HelpRequested : public UsageError {
 public:
  using UsageError::UsageError;
};

/// Ends a program whose answer goes to stdout: `return kd::finish(status)`. Writes out all buffered text. If text was
/// lost (a full disk, a closed descriptor), prints a message on stderr and returns 1 instead of 0.
int finish(int status = 0);

/// Makes a text safe for a terminal, line by line: characters in file names, tensor names and messages must not control
/// the terminal.
std::string terminal_text(std::string_view text);

/// Prints notes about what was read on stderr, because stdout is for the program's answer.
void show_notes(const std::vector<std::string>& notes);

/// True for errors of usage and settings, which are found before any work began.
bool is_usage_error(const std::exception& error);

/// Prints the error and returns the exit status: `catch (const kd::Error& error) { return kd::report(error); }`.
int report(const std::exception& error);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/tools/report_inl.hpp"
#endif

#endif
