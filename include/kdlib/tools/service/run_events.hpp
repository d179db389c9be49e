// SPDX-License-Identifier: Apache-2.0
// The events of one run for one listener, pulled when it can take more: nothing piles up for slow ones.
#ifndef KDLIB_TOOLS_SERVICE_RUN_EVENTS_HPP
#define KDLIB_TOOLS_SERVICE_RUN_EVENTS_HPP

#include <cstdint>
#include <string>

#include "kdlib/tools/service/run_store.hpp"

KDLIB_NAMESPACE_BEGIN

/// One message: a JSON object with a member `type`.
struct RunEvent {
  std::string type, json;
  std::int64_t step = -1;  // of metrics: where a listener may come back; -1: none
};

/// history (old lines, in pieces of at most 64 KiB), live, then metrics, state, phase, log, warning, rewind as they
/// come, and `end` when the run has ended and all is told. The listener's place is a line of the run's file, so that
/// the memory for one does not depend on how slow it is.
class RunEvents {
 public:
  enum class Next { message, nothing, end };

  /// Starts at the first line whose step is at least `from_step`. ServiceProblem 404 without such a run.
  RunEvents(RunStore& store, std::string id, std::int64_t from_step);
  /// The next message, if there is one now. After `end` there is none.
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

/// The object that tells the state of a run: state, reason, detail, stop_asked, queue_position, times.
std::string run_state_json(RunStore& store, const RunRecord& record, const char* type);

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/service/run_events_inl.hpp"
#endif

#endif
