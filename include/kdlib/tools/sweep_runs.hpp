// SPDX-License-Identifier: Apache-2.0
// Executes the runs of a sweep as child processes, and reads their state from their folders. For programs only.
#ifndef KDLIB_TOOLS_SWEEP_RUNS_HPP
#define KDLIB_TOOLS_SWEEP_RUNS_HPP

#include <functional>
#include <string>
#include <vector>

#include "kdlib/tools/sweep_plan.hpp"

KDLIB_NAMESPACE_BEGIN

/// The state of one run of a sweep.
enum class SweepState { missing, done, failed };

/// The state of a run, as its folder and its log tell: done if result.json exists, failed if the log holds an error.
struct SweepStatus {
  SweepState state = SweepState::missing;
  std::string error;  // the last line of the log that begins with "error:", or how the process ended
};

/// Returns the state of a run. SettingsError, naming the key: the folder holds a run with other settings.
SweepStatus sweep_status(const SweepPlan& plan, const SweepRun& run);

/// Settings for starting the runs of a sweep.
struct SweepSettings {
  std::string program;  // path of distil
  int jobs = 1;         // >= 1; runs at the same time
  int threads = 0;      // threads of each run whose settings name no number; 0: the default of distil
  /// Seconds to wait for another process that still holds a run: one that is ending, or one of another sweep.
  double patience = 60;
};

/// What a progress function gets: it is called when a run starts, when a run ends, and every second in between.
struct SweepProgress {
  std::size_t finished = 0, failed = 0, total = 0;  // numbers of runs of this call
  std::vector<std::string> running;
  double seconds = 0;
};

/// Starts the runs in order, at most `jobs` at the same time, each with its output in out/logs/<name>.log, and waits
/// for their ends. Returns the state of each run. A log is locked as long as its child process lives, even if this
/// process ends. A run whose log is locked is postponed, and fails after `patience` seconds. If `stop` returns true or
/// this process dies, every child is asked to stop (SIGTERM; distil saves and ends); runs that were not started stay
/// missing.
std::vector<SweepStatus> run_sweep(const SweepPlan& plan, const std::vector<const SweepRun*>& runs,
                                   const SweepSettings& settings, const std::function<bool()>& stop,
                                   const std::function<void(const SweepProgress&)>& progress);

/// The output of a child process, stdout and stderr together, and its exit status (-1: ended by a signal).
struct ChildOutput {
  int status = -1;
  std::string text;
};
/// Runs a program and waits for its end. The child is asked to end (SIGTERM) when `stop` returns true.
ChildOutput run_child(const std::string& program, const std::vector<std::string>& arguments,
                      const std::function<bool()>& stop);

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/sweep_runs_inl.hpp"
#endif

#endif
