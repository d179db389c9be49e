// SPDX-License-Identifier: Apache-2.0
// Makes the n-th write, fsync or rename of this process fail, or kill the process. Linking fault_hook.cpp is enough.
// The environment KDLIB_FAULT = "kind:n:kill" raises SIGKILL before the n-th call (from 1) of that kind;
// "kind:n:enospc" lets that call and all later ones of the kind answer ENOSPC, as a full disk does.
#ifndef KDLIB_TESTS_SUPPORT_FAULT_HOOK_HPP
#define KDLIB_TESTS_SUPPORT_FAULT_HOOK_HPP

#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <stdexcept>
#include <string>

#include "kdlib/core/parallel.hpp"

namespace kdlib_tests {

/// Calls of a kind ("write", "fsync" or "rename") since the process started or since reset_fault_counts().
long fault_count(const char* kind);
void reset_fault_counts();

/// Sets KDLIB_FAULT for one scope and counts from zero.
struct Fault {
  explicit Fault(const std::string& plan) {
    ::setenv("KDLIB_FAULT", plan.c_str(), 1);
    reset_fault_counts();
  }
  ~Fault() { ::unsetenv("KDLIB_FAULT"); }
};

/// Runs f in a child process; answers its wait status. The threads of a pool are not in the child: OneThread.
template <class F>
int status_of_child(const F& f) {
  const pid_t child = ::fork();
  if (child == 0) {
    f();
    ::_exit(0);
  }
  int status = 0;
  pid_t ended = -1;
  while (child > 0 && (ended = ::waitpid(child, &status, 0)) < 0 && errno == EINTR) {
  }
  if (ended != child || child < 0) throw std::runtime_error("a child process could not be started or waited for");
  return status;
}

/// Work stays on the calling thread for one scope.
struct OneThread {
  int before = kdlib::thread_count();
  OneThread() { kdlib::set_thread_count(1); }
  ~OneThread() { kdlib::set_thread_count(before); }
};

}  // namespace kdlib_tests

#endif
