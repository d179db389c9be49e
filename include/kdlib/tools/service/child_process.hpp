// SPDX-License-Identifier: Apache-2.0
// Programs as children of the service: asked for an answer, or kept as a run by a process of their own.
#ifndef KDLIB_TOOLS_SERVICE_CHILD_PROCESS_HPP
#define KDLIB_TOOLS_SERVICE_CHILD_PROCESS_HPP

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {
/// Seconds of the steady clock.
double steady_seconds();
}  // namespace detail

/// How a program that was run to its end has ended, and what it printed.
struct CapturedChild {
  int status = -1;  // exit status; -1: a signal or the time limit
  bool timed_out = false;
  std::string out, error;  // at most 16 MiB each
};
/// Runs a program to its end, with a file as its stdin. It is killed after `seconds`. IoError: it cannot be started.
CapturedChild run_captured(const std::string& program, const std::vector<std::string>& arguments, double seconds,
                           const std::string& input = "/dev/null");

/// Files of one run beside its folder, all in runs/.service.
struct KeeperFiles {
  std::string log, lock, pids, exit;
};
struct KeeperOrder {
  std::string self;     // this program, which is started again as `serve keep ...`
  std::string program;  // distil
  std::vector<std::string> arguments;
  KeeperFiles files;
  double memory_floor = 0.04;  // share of the memory below which the child is asked to save and stop; 0: never
};
/// Starts the keeper of a run: a session of its own that runs the program with its output in the log, survives the
/// service, holds the lock as long as it or the program lives, and writes the end into `exit`, for which it keeps room
/// on the disk. The lock passes from the service to the keeper without a gap. IoError.
void start_keeper(const KeeperOrder& order);
/// True while a keeper or its program lives: the kernel holds the lock for them.
bool is_kept(const std::string& lock);
/// The process id of the program of a run; 0: it is not there (any more).
long kept_child(const KeeperFiles& files);
/// Sends a signal to the program of a run: 0 where it was sent, else errno. The process is known by number and start.
int signal_kept(const KeeperFiles& files, int number);

/// How a run ended, as its keeper wrote it.
struct KeeperExit {
  int status = -1, signal = 0;
  bool out_of_memory = false;  // the kernel killed it for memory
  bool memory_floor = false;   // asked to stop because memory ran short
};
std::optional<KeeperExit> read_keeper_exit(const std::string& path);

/// The body of `serve keep LOG PIDS EXIT FLOOR PROGRAM ARGUMENTS...`, whose descriptor 3 is a pipe that it tells that
/// it runs and whose descriptor 4 holds the lock. Answers the exit status.
int keep_run(int argc, char** argv);

/// Identifies this start of the machine.
std::string boot_id();

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/service/child_process_inl.hpp"
#endif

#endif
