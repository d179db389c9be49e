// SPDX-License-Identifier: Apache-2.0
// The events of one run for one listener. The server fetches an event only when the listener can take it, so that
// nothing accumulates for slow listeners.
#ifndef KDLIB_TOOLS_SERVICE_RUN_EVENTS_HPP
#define KDLIB_TOOLS_SERVICE_RUN_EVENTS_HPP

#include <cstdint>
#include <string>

#include "kdlib/tools/service/run_store.hpp"

KDLIB_NAMESPACE_BEGIN

/// One message: a JSON object with a member `type`.
struct RunEvent {
  std::string type, json;
  std::int64_t step = -1;  // for metrics: the step from which a listener may continue after a reconnect; -1: none
};

/// Makes the events. They begin with the state of the run, then `history` (old lines of metrics, in pieces of at most
/// 64 KiB) and `live`. After that `metrics`, `state`, `phase`, `log`, `warning` and `rewind` follow as they occur, and
/// at last `end`, when the run has ended and everything was sent. The place of a listener is a line of the run's file,
/// so that the memory for a listener does not depend on its speed.
class RunEvents {
 public:
  enum class Next { message, nothing, end };

  /// Starts at the first line of metrics whose step is at least `from_step`. ServiceProblem 404: there is no such run.
  RunEvents(RunStore& store, std::string id, std::int64_t from_step);
  /// Fills the next event, if there is one at present. There are no events after `end`.
  Next next(RunEvent& event);

 private:
  bool next_metrics(RunEvent& event, MetricsTail& tail);
  bool next_state(RunEvent& event);
  bool next_log(RunEvent& event);

  RunStore& store_;
  std::string id_, phase_;
  std::int64_t from_step_, phase_done_ = -1;
  bool placed_ = false, live_ = false, ended_ = false;
  std::size_t line_ = 0, warning_ = 0;
  std::uint64_t generation_ = 0, version_ = ~std::uint64_t{0}, log_at_ = 0;
  bool log_placed_ = false;
};

/// Returns the object that describes the state of a run: type, run_id, state, reason, detail, stop_asked, attempts,
/// total_steps and queue_position.
std::string run_state_json(RunStore& store, const RunRecord& record, const char* type);

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/service/run_events_inl.hpp"
#endif

#endif
