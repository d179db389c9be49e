// SPDX-License-Identifier: Apache-2.0
// Runs of a sweep as child processes, and what their folders say about them. For programs only.
#ifndef KDLIB_TOOLS_SWEEP_RUNS_HPP
#define KDLIB_TOOLS_SWEEP_RUNS_HPP

#include <functional>
#include <string>
#include <vector>

#include "kdlib/tools/sweep_plan.hpp"

KDLIB_NAMESPACE_BEGIN

/// What became of one run of a sweep.
enum class SweepState { missing, done, failed };

/// What stands in the folder of a run: done where result.json is there, failed where its log ends with an error.
struct SweepStatus {
  SweepState state = SweepState::missing;
  std::string error;  // last line of the log that begins with "error:", or how the process ended
};

/// SettingsError, naming the key, where the folder holds a run with other settings.
SweepStatus sweep_status(const SweepPlan& plan, const SweepRun& run);

/// How run_sweep starts its children.
struct SweepSettings {
  std::string program;  // distil
  int jobs = 1;         // children at once
  int threads = 0;      // of each child whose settings name none; 0: its own default
  double patience =
      60;  // seconds to wait for a process that still holds a run (one that is ending, or another sweep's)
};

/// Called when a run starts, while runs are going on (every second) and when one ends.
struct SweepProgress {
  std::size_t finished = 0, failed = 0, total = 0;  // of this call
  std::vector<std::string> running;
  double seconds = 0;
};

/// Starts the runs in order, `jobs` at a time, each with its output in out/logs/<name>.log, and waits for them. Answers
/// the status of each. A log is locked for the life of its child, whatever becomes of this process: a run whose log is
/// held is put off, and fails after `patience`. A child is asked to stop (SIGTERM: distil saves and ends) when `stop`
/// says so or when this process dies; then the rest stays missing.
std::vector<SweepStatus> run_sweep(const SweepPlan& plan, const std::vector<const SweepRun*>& runs,
                                   const SweepSettings& settings, const std::function<bool()>& stop,
                                   const std::function<void(const SweepProgress&)>& progress);

/// Output of a child that is waited for: stdout and stderr together, and its exit status (-1: a signal).
struct ChildOutput {
  int status = -1;
  std::string text;
};
/// The child is told to end when `stop` says so.
ChildOutput run_child(const std::string& program, const std::vector<std::string>& arguments,
                      const std::function<bool()>& stop);

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/sweep_runs_inl.hpp"
#endif

#endif
