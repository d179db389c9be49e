// SPDX-License-Identifier: Apache-2.0
// Starts programs as children of the service: either to get an answer, or as a run that a separate process, the keeper,
// watches.
#ifndef KDLIB_TOOLS_SERVICE_CHILD_PROCESS_HPP
#define KDLIB_TOOLS_SERVICE_CHILD_PROCESS_HPP

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {
/// Returns the seconds of a clock that never goes back.
double steady_seconds();
}  // namespace detail

/// The result of a program that was run to its end: how it ended and what it printed.
struct CapturedChild {
  int status = -1;  // exit status; -1: the program was ended by a signal or the time limit
  bool timed_out = false;
  std::string out, error;  // at most 16 MiB each
};
/// Runs a program to its end, with the file `input` as its stdin. The program is killed after `seconds`. IoError: the
/// program cannot be started.
CapturedChild run_captured(const std::string& program, const std::vector<std::string>& arguments, double seconds,
                           const std::string& input = "/dev/null");

/// The paths of the files through which the service and the keeper of a run communicate. The log is in the folder of
/// the run, the others are in runs/.service.
struct KeeperFiles {
  std::string log, lock, pids, exit;
};
struct KeeperOrder {
  std::string self;     // path of this program, which is started again as `serve keep ...`
  std::string program;  // path of distil
  std::vector<std::string> arguments;
  KeeperFiles files;
  double memory_floor = 0.04;  // share of free memory below which the program is asked to stop; 0: never
};
/// Starts the keeper of a run. The keeper is a process in a separate session, so that it survives the service. It runs
/// the program with the log as output, holds the lock as long as the keeper or the program lives, and writes how the
/// run ended into `exit`, for which it reserves room on the disk. The lock passes from the service to the keeper
/// without a gap. IoError: the keeper did not start.
void start_keeper(const KeeperOrder& order);
/// True while a keeper or its program lives. The kernel holds the lock for these processes.
bool is_kept(const std::string& lock);
/// Returns the process id of a run's program; 0 if the program does not run or has ended.
long kept_child(const KeeperFiles& files);
/// Sends a signal to a run's program. Returns 0 if the signal was sent, else errno. The process is identified by its
/// number and its start time.
int signal_kept(const KeeperFiles& files, int number);

/// How a run ended, as its keeper has written it.
struct KeeperExit {
  int status = -1, signal = 0;
  bool out_of_memory = false;  // the kernel killed the program because memory ran out
  bool memory_floor = false;   // the keeper asked the program to stop because memory ran short
};
std::optional<KeeperExit> read_keeper_exit(const std::string& path);

/// The body of `serve keep LOG PIDS EXIT FLOOR PROGRAM ARGUMENTS...`. Descriptor 3 is a pipe through which the keeper
/// tells the service that the program runs; descriptor 4 holds the lock. Returns the exit status.
int keep_run(int argc, char** argv);

/// Returns a text that identifies this start of the machine.
std::string boot_id();

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/service/child_process_inl.hpp"
#endif

#endif
