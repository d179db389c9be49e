// SPDX-License-Identifier: Apache-2.0
// Runs one of the project's programs from the folder that KDLIB_BIN_DIR names.
#ifndef KDLIB_TESTS_SUPPORT_RUN_PROGRAM_HPP
#define KDLIB_TESTS_SUPPORT_RUN_PROGRAM_HPP

#include <stdlib.h>
#include <sys/wait.h>

#include <stdexcept>
#include <string>

#include "kdlib/io/atomic_file.hpp"
#include "support/shared.hpp"

namespace kdlib_tests {

struct ProgramAnswer {
  int status = -1;  // exit status; -1: ended by a signal
  std::string out, error;
};

inline std::string program_path(const std::string& name) {
  const char* folder = ::getenv("KDLIB_BIN_DIR");
  return (folder != nullptr ? std::string(folder) : std::string("bin")) + "/" + name;
}

/// `arguments` is shell text: quote what needs it.
inline ProgramAnswer run_program(const std::string& name, const std::string& arguments) {
  const TemporaryDirectory folder;
  const std::string command =
      program_path(name) + " " + arguments + " > " + (folder / "out") + " 2> " + (folder / "error") + " < /dev/null";
  const int status = ::system(command.c_str());
  if (status == -1) throw std::runtime_error("cannot run " + command);
  return {WIFEXITED(status) ? WEXITSTATUS(status) : -1, kdlib::read_file(folder / "out"),
          kdlib::read_file(folder / "error")};
}

}  // namespace kdlib_tests

#endif
