// SPDX-License-Identifier: Apache-2.0
// The handler of service_api.hpp that says what a run is doing.
#ifndef KDLIB_TOOLS_SERVICE_SERVICE_STATUS_INL_HPP
#define KDLIB_TOOLS_SERVICE_SERVICE_STATUS_INL_HPP

#include <algorithm>
#include <cmath>

#include "kdlib/io/paths.hpp"
#include "kdlib/recipe/machines.hpp"
#include "kdlib/text/unicode.hpp"
#include "kdlib/tools/service/service_api.hpp"
#include "kdlib/tools/service/service_runs_inl.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {
KDLIB_TOOLS_FUNC void write_status_metrics(JsonWriter& json, const LastMetrics& last, const RunRecord& r,
                                           const RunPhase& phase) {
  json.begin_object().member("step", phase.step).member("total_steps", r.total_steps);
  json.member("progress_pct",
              r.total_steps > 0 ? 100.0 * static_cast<double>(phase.step) / static_cast<double>(r.total_steps) : 0.0);
  write_interface_metrics(json, last.training, is_reverse(r));
  json.member("validation_kl", metric(last.evaluation, "evaluation/forward_kl")).end_object();
}
KDLIB_TOOLS_FUNC void write_memory(JsonWriter& json, const std::optional<RunMemory>& memory) {
  json.key("memory").begin_object().member("free_share", free_memory_share());
  const auto number = [&](const char* name, double bytes) {
    json.key(name);
    if (memory && bytes > 0) json.value(static_cast<std::int64_t>(bytes));
    else json.null();
  };
  const RunMemory m = memory.value_or(RunMemory{});
  number("resident", m.resident), number("peak", m.peak), number("available", m.available), number("limit", m.limit);
  json.end_object();
}
}  // namespace detail

KDLIB_TOOLS_FUNC ServiceAnswer ServiceApi::status(const ApiCall& call) {
  const std::string id = chosen_run(call.query("run_id"));
  JsonWriter json(JsonStyle{0, NonFinite::null});
  if (id.empty()) {
    json.begin_object().member("state", "idle").key("run_id").null().key("metrics").null().end_object();
    return detail::json_answer(json);
  }
  const RunRecord& r = store_.get(id);
  const detail::LastMetrics last = detail::last_metrics(store_.tail(id));
  const RunPhase phase = store_.phase(id);
  json.begin_object()
      .member("state", run_state_name(r.state))
      .member("run_id", id)
      .member("reason", r.reason)
      .member("detail", r.detail);
  json.key("metrics");
  detail::write_status_metrics(json, last, r, phase);
  const double time = detail::metric(last.training, "time");
  json.key("estimated_time_remaining_seconds");
  if (is_active(r.state) && phase.step > 0 && std::isfinite(time))
    json.value(time / static_cast<double>(phase.step) *
               static_cast<double>(std::max<std::int64_t>(0, r.total_steps - phase.step)));
  else json.null();
  const std::string checkpoints = join_path(store_.folder(id), "checkpoints");
  const std::string newest = detail::newest_checkpoint(checkpoints);
  json.key("current_checkpoint");
  if (newest.empty()) json.null();
  else json.value(replace_invalid_utf8(join_path(checkpoints, newest)));
  json.key("phase")
      .begin_object()
      .member("name", phase.name)
      .member("done", phase.done)
      .member("total", phase.total)
      .end_object();
  json.member("queue_position", store_.queue_position(id)).key("teacher_cache").begin_object();
  for (const char* name : {"hit_rate", "saved_seconds"})
    json.member(name, detail::metric(last.evaluation, concat("teacher_cache/", name)));
  json.end_object();
  detail::write_memory(json, store_.memory(id));
  json.key("warnings").value(r.warnings).end_object();
  return detail::json_answer(json);
}

KDLIB_NAMESPACE_END

#endif
