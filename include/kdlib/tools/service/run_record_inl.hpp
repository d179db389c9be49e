// SPDX-License-Identifier: Apache-2.0
// Bodies of run_record.hpp.
#ifndef KDLIB_TOOLS_SERVICE_RUN_RECORD_INL_HPP
#define KDLIB_TOOLS_SERVICE_RUN_RECORD_INL_HPP

#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/json_writer.hpp"
#include "kdlib/tools/service/run_record.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_TOOLS_FUNC const char* run_state_name(RunState state) {
  return enum_names(state)[static_cast<std::size_t>(state)];
}

KDLIB_TOOLS_FUNC std::optional<RunState> run_state(std::string_view name) { return enum_value<RunState>(name); }

KDLIB_TOOLS_FUNC bool is_active(RunState s) {
  return s == RunState::starting || s == RunState::running || s == RunState::stopping;
}
KDLIB_TOOLS_FUNC bool is_open(RunState s) { return s == RunState::queued || is_active(s); }

KDLIB_TOOLS_FUNC std::string RunRecord::json() const {
  JsonWriter json(JsonStyle{2});
  json.begin_object().member("id", id).member("kind", kind).member("label", label).member("session", session);
  json.member("device", device).member("preset", preset).key("tags").value(tags);
  json.key("arguments").value(arguments).key("warnings").value(warnings);
  json.member("state", run_state_name(state)).member("reason", reason).member("detail", detail);
  json.member("idempotency_key", idempotency_key).member("body", body).member("boot", boot);
  json.member("order", order).member("attempts", attempts).member("created", created).member("started", started);
  json.member("ended", ended).member("stop_asked", stop_asked).member("force_asked", force_asked);
  json.member("teacher", teacher).member("student", student).member("adapter", adapter);
  return json.member("total_steps", total_steps).end_object().text();
}

KDLIB_TOOLS_FUNC RunRecord RunRecord::read(const std::string& path) {
  const Json json = Json::parse(read_file(path, 4 << 20), path);
  RunRecord r;
  const auto text = [&](const char* key, std::string& to) { to = json.string_or(key, ""); };
  const auto texts = [&](const char* key, std::vector<std::string>& to) {
    for (const Json& element : json.at(key)) to.emplace_back(element.as_string());
  };
  r.id = json.at("id").as_string();
  const auto state = run_state(json.at("state").as_string());
  if (!state) json.at("state").refuse("is no state of a run");
  r.state = *state;
  text("kind", r.kind), text("label", r.label), text("session", r.session), text("device", r.device);
  text("preset", r.preset), text("reason", r.reason), text("detail", r.detail), text("boot", r.boot);
  text("idempotency_key", r.idempotency_key), text("body", r.body);
  text("teacher", r.teacher), text("student", r.student), text("adapter", r.adapter);
  texts("tags", r.tags), texts("arguments", r.arguments), texts("warnings", r.warnings);
  r.order = json.at("order").as_int();
  r.attempts = json.int_or("attempts", 0);
  r.created = json.double_or("created", 0), r.started = json.double_or("started", 0);
  r.ended = json.double_or("ended", 0);
  r.stop_asked = json.bool_or("stop_asked", false), r.force_asked = json.bool_or("force_asked", false);
  r.total_steps = json.int_or("total_steps", 0);
  return r;
}

KDLIB_NAMESPACE_END

#endif
