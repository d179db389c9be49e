// SPDX-License-Identifier: Apache-2.0
// The record of one run: what the service knows of the run and keeps in a file beside the run's folder.
#ifndef KDLIB_TOOLS_SERVICE_RUN_RECORD_HPP
#define KDLIB_TOOLS_SERVICE_RUN_RECORD_HPP

#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "kdlib/core/fields.hpp"
#include "kdlib/io/json.hpp"

KDLIB_NAMESPACE_BEGIN

/// The state of a run.
enum class RunState : std::uint8_t { queued, starting, running, stopping, stopped, completed, failed, interrupted };
constexpr std::array<const char*, 8> enum_names(RunState) {
  return {"queued", "starting", "running", "stopping", "stopped", "completed", "failed", "interrupted"};
}
/// Returns the name of a state, as the interface writes it.
const char* run_state_name(RunState state);
/// Returns the state of a name, or nothing.
std::optional<RunState> run_state(std::string_view name);
/// True for queued, starting, running and stopping.
bool is_open(RunState state);
/// True for starting, running and stopping, the states in which there is a process.
bool is_active(RunState state);

/// The record of one run.
struct RunRecord {
  std::string id, kind = "distil", label, session, device = "cpu", preset;
  std::vector<std::string> tags, arguments, warnings;  // arguments: the command line of distil, without --out
  RunState state = RunState::queued;
  std::string reason, detail;         // of an end: user, error, out_of_memory, disk_full, killed, host_restart
  std::string idempotency_key, body;  // the request that made the run
  std::string boot;
  std::int64_t order = 0;                      // order in which runs were queued
  std::int64_t attempts = 0;                   // number of starts
  double created = 0, started = 0, ended = 0;  // seconds since 1970; 0: not yet happened
  bool stop_asked = false, force_asked = false;
  std::string teacher, student, adapter;  // shown in lists of runs
  std::int64_t total_steps = 0;           // 0: unknown

  std::string json() const;
  /// FormatError names file and key.
  static RunRecord read(const std::string& path);
};

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/service/run_record_inl.hpp"
#endif

#endif
