// SPDX-License-Identifier: Apache-2.0
// Bodies of run_events.hpp.
#ifndef KDLIB_TOOLS_SERVICE_RUN_EVENTS_INL_HPP
#define KDLIB_TOOLS_SERVICE_RUN_EVENTS_INL_HPP

#include <fcntl.h>
#include <sys/stat.h>

#include <algorithm>

#include "kdlib/io/json_writer.hpp"
#include "kdlib/text/unicode.hpp"
#include "kdlib/tools/service/message.hpp"
#include "kdlib/tools/service/metrics_tail.hpp"
#include "kdlib/tools/service/run_events.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_TOOLS_FUNC std::string run_state_json(RunStore& store, const RunRecord& r, const char* type) {
  JsonWriter json;
  json.begin_object().member("type", type).member("run_id", r.id).member("state", run_state_name(r.state));
  json.member("reason", r.reason).member("detail", r.detail).member("stop_asked", r.stop_asked);
  json.member("attempts", r.attempts).member("total_steps", r.total_steps);
  return json.member("queue_position", store.queue_position(r.id)).end_object().text();
}

KDLIB_TOOLS_FUNC RunEvents::RunEvents(RunStore& store, std::string id, std::int64_t from_step)
    : store_(store), id_(std::move(id)), from_step_(from_step) {
  store_.get(id_);
}

KDLIB_TOOLS_FUNC bool RunEvents::next_metrics(RunEvent& event, MetricsTail& tail) {
  if (!placed_) {
    placed_ = true;
    generation_ = tail.generation();
    line_ = from_step_ > 0 ? tail.find_step(from_step_) : 0;
  }
  if (generation_ != tail.generation()) {
    const std::size_t kept = tail.kept_since(generation_);
    generation_ = tail.generation();
    if (kept < line_) {
      line_ = kept;
      const std::int64_t step = kept == 0 ? -1 : tail.step(kept - 1);
      event = {"rewind", concat("{\"type\":\"rewind\",\"step\":", step, "}"), -1};
      return true;
    }
  }
  if (line_ < tail.size()) {
    std::size_t last = line_ + 1;
    if (!live_)
      while (last < tail.size() && tail.bytes(line_, last + 1) <= (1u << 16)) ++last;
    std::string text = tail.text(line_, last);
    if (text.empty()) return false;
    const std::int64_t step = tail.step(last - 1);
    text.pop_back();
    if (live_) {
      event = {"metrics", concat("{\"type\":\"metrics\",\"step\":", step, ",\"values\":", text, "}"), step};
    } else {
      std::replace(text.begin(), text.end(), '\n', ',');
      event = {"history", concat("{\"type\":\"history\",\"lines\":[", text, "]}"), step};
    }
    line_ = last;
    return true;
  }
  if (live_) return false;
  live_ = true;
  event = {"live", "{\"type\":\"live\"}", -1};
  return true;
}

KDLIB_TOOLS_FUNC bool RunEvents::next_state(RunEvent& event) {
  const RunRecord& r = store_.get(id_);
  if (version_ != store_.version(id_)) {
    version_ = store_.version(id_);
    event = {"state", run_state_json(store_, r, "state"), -1};
    return true;
  }
  if (warning_ < r.warnings.size()) {
    JsonWriter json;
    json.begin_object().member("type", "warning").member("text", r.warnings[warning_++]).end_object();
    event = {"warning", json.text(), -1};
    return true;
  }
  const RunPhase phase = store_.phase(id_);
  // Steps are told by metrics; of other work it is told how far it is.
  const std::int64_t done = phase.name == "writing" ? phase.done : -1;
  if (phase.name == phase_ && done == phase_done_) return false;
  phase_ = phase.name;
  phase_done_ = done;
  JsonWriter json;
  json.begin_object().member("type", "phase").member("name", phase.name).member("done", phase.done);
  event = {"phase", json.member("total", phase.total).end_object().text(), -1};
  return true;
}

KDLIB_TOOLS_FUNC bool RunEvents::next_log(RunEvent& event) {
  const detail::FileDescriptor fd = detail::open_descriptor(store_.log_path(id_), O_RDONLY | O_NONBLOCK | O_NOFOLLOW);
  struct stat status {};
  if (!fd || ::fstat(fd.get(), &status) != 0) return false;
  const std::uint64_t size = static_cast<std::uint64_t>(status.st_size);
  if (!log_placed_ || size < log_at_) log_at_ = size > 8192 ? size - 8192 : 0;
  log_placed_ = true;
  if (size == log_at_) return false;
  const std::string text = detail::read_range(fd.get(), log_at_, std::min(size, log_at_ + 16384));
  JsonWriter json;
  json.begin_object()
      .member("type", "log")
      .member("offset", log_at_)
      .member("text", replace_invalid_utf8(text))
      .end_object();
  log_at_ += text.size();
  event = {"log", json.text(), -1};
  return !text.empty();
}

KDLIB_TOOLS_FUNC RunEvents::Next RunEvents::next(RunEvent& event) {
  if (ended_) return Next::end;
  if (store_.find(id_) == nullptr) {  // removed meanwhile
    ended_ = true;
    event = {"end", "{\"type\":\"end\",\"state\":\"removed\"}", -1};
    return Next::message;
  }
  MetricsTail& tail = store_.tail(id_);
  if (version_ == ~std::uint64_t{0} && next_state(event)) return Next::message;
  if (next_metrics(event, tail) || next_state(event) || next_log(event)) return Next::message;
  if (is_open(store_.get(id_).state)) return Next::nothing;
  ended_ = true;
  event = {"end", run_state_json(store_, store_.get(id_), "end"), -1};
  return Next::message;
}

KDLIB_NAMESPACE_END

#endif
