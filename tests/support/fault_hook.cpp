// SPDX-License-Identifier: Apache-2.0
#include "support/fault_hook.hpp"

#include <atomic>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>

#include "kdlib/io/atomic_file.hpp"

namespace {

/// Constant-initialised, so that it can be used before any other static object of the process exists.
constinit std::atomic<long> counts[3] = {0, 0, 0};

std::atomic<long>& count_of(const char* kind) {
  if (std::strcmp(kind, "write") == 0) return counts[0];
  if (std::strcmp(kind, "fsync") == 0) return counts[1];
  return counts[2];
}

int answer(const char* kind) {
  const long call = ++count_of(kind);
  const char* plan = std::getenv("KDLIB_FAULT");
  const std::size_t length = std::strlen(kind);
  if (plan == nullptr || std::strncmp(plan, kind, length) != 0 || plan[length] != ':') return 0;
  char* end = nullptr;
  const long at = std::strtol(plan + length + 1, &end, 10);
  if (std::strcmp(end, ":kill") == 0 && call == at) std::raise(SIGKILL);
  if (std::strcmp(end, ":enospc") == 0 && call >= at) return ENOSPC;
  return 0;
}

const bool installed = [] {
  kdlib::detail::fault_hook() = answer;
  return true;
}();

}  // namespace

namespace kdlib_tests {

long fault_count(const char* kind) { return count_of(kind); }

void reset_fault_counts() {
  for (auto& count : counts) count = 0;
}

}  // namespace kdlib_tests
