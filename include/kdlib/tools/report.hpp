// SPDX-License-Identifier: Apache-2.0
// How a program ends on an error: the message on stderr and the exit status 1 (failed) or 2 (bad usage).
#ifndef KDLIB_TOOLS_REPORT_HPP
#define KDLIB_TOOLS_REPORT_HPP

#include <cstdio>

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

/// Prints the error and returns the exit status: `catch (const kd::Error& error) { return kd::report(error); }`.
inline int report(const std::exception& error) {
  if (dynamic_cast<const HelpRequested*>(&error) != nullptr) {
    std::fputs(error.what(), stdout);
    return std::fflush(stdout) == 0 ? 0 : 1;
  }
  std::fprintf(stderr, "error: %s\n", error.what());
  return dynamic_cast<const UsageError*>(&error) != nullptr ? 2 : 1;
}

KDLIB_NAMESPACE_END

#endif
