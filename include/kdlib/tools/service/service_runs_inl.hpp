// SPDX-License-Identifier: Apache-2.0
// Handlers of service_api.hpp that start, stop and list runs.
#ifndef KDLIB_TOOLS_SERVICE_SERVICE_RUNS_INL_HPP
#define KDLIB_TOOLS_SERVICE_SERVICE_RUNS_INL_HPP

#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "kdlib/io/paths.hpp"
#include "kdlib/text/unicode.hpp"
#include "kdlib/tools/service/service_api.hpp"
#include "kdlib/version.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {
KDLIB_TOOLS_FUNC ServiceAnswer json_answer(JsonWriter& json, int status = 200) {
  ServiceAnswer out;
  out.status = status;
  out.body = json.text();
  return out;
}

KDLIB_TOOLS_FUNC void write_time(JsonWriter& json, const char* name, double seconds) {
  json.key(name);
  if (seconds > 0) json.value(time_text(seconds));
  else json.null();
}

/// A number of a line of metrics; NaN where it is missing or null.
KDLIB_TOOLS_FUNC double metric(const Json& line, std::string_view name) {
  const auto value = line.find_set(name);
  return value && value->is_number() ? value->as_double() : std::nan("");
}

/// Lines [first, last) of a run, parsed, with one read; none where the file is shorter by now.
KDLIB_TOOLS_FUNC std::vector<Json> parsed_lines(const MetricsTail& tail, std::size_t first, std::size_t last) {
  std::vector<Json> out;
  const std::string text = tail.text(first, last);
  for (std::size_t begin = 0, end; (end = text.find('\n', begin)) != std::string::npos; begin = end + 1)
    out.push_back(Json::parse(text.substr(begin, end - begin), concat("metrics.jsonl:", first + out.size() + 1)));
  return out;
}

/// The newest lines: of training and of held-out text.
struct LastMetrics {
  Json training, evaluation;
};

/// They are looked for among the last 2000 lines.
KDLIB_TOOLS_FUNC LastMetrics last_metrics(const MetricsTail& tail) {
  LastMetrics out;
  std::size_t last = tail.size();
  while (last > 0 && tail.size() - last < 2000 && (out.training.is_null() || out.evaluation.is_null())) {
    const std::size_t first = last > 50 ? last - 50 : 0;
    const std::vector<Json> lines = parsed_lines(tail, first, last);
    if (lines.empty()) break;
    for (std::size_t i = lines.size(); i-- > 0;) {
      if (out.training.is_null() && lines[i].contains("train/loss")) out.training = lines[i];
      if (out.evaluation.is_null() && lines[i].contains("evaluation/forward_kl")) out.evaluation = lines[i];
    }
    last = first;
  }
  return out;
}

KDLIB_TOOLS_FUNC bool is_reverse(const RunRecord& r) {
  for (const std::string& a : r.arguments)
    if (a.find("--loss=") == 0 && a.find("reverse_kl") != std::string::npos) return true;
  return false;
}
}  // namespace detail

KDLIB_TOOLS_FUNC void write_interface_metrics(JsonWriter& json, const Json& line, bool reverse) {
  json.member("kl_loss", detail::metric(line, reverse ? "train/reverse_kl" : "train/forward_kl"));
  json.member("loss", detail::metric(line, "train/loss"));
  json.member("token_agreement_pct", 100 * detail::metric(line, "train/top1_agreement"));
  json.member("top5_agreement_pct", 100 * detail::metric(line, "train/top5_contains"));
  json.member("student_entropy", detail::metric(line, "train/student_entropy"));
  json.member("teacher_entropy", detail::metric(line, "train/teacher_entropy"));
  json.member("kl_std", detail::metric(line, "train/kl_std"));
  json.member("kl_min", detail::metric(line, "train/kl_min"));
  json.member("kl_max", detail::metric(line, "train/kl_max"));
  json.member("learning_rate", detail::metric(line, "train/rate"));
  json.member("gradient_norm", detail::metric(line, "train/grad_norm"));
  json.member("tokens_per_second", detail::metric(line, "train/tokens_per_s"));
}

KDLIB_TOOLS_FUNC ServiceAnswer ServiceApi::health(const ApiCall&) {
  JsonWriter json;
  json.begin_object().member("status", "ok").member("kdlib", KDLIB_VERSION_STRING).member("api", "v1").end_object();
  return detail::json_answer(json);
}

KDLIB_TOOLS_FUNC ServiceAnswer ServiceApi::document(const ApiCall&) {
  ServiceAnswer out;
  out.body = openapi();
  return out;
}

KDLIB_TOOLS_FUNC ServiceAnswer ServiceApi::list_settings(const ApiCall&) {
  JsonWriter json;
  json.begin_object().key("settings").raw(flags_.json()).key("devices").value(settings_.devices);
  json.key("roots").begin_array();
  for (const std::string& root : roots_.folders()) json.value(replace_invalid_utf8(root));
  json.end_array().end_object();
  return detail::json_answer(json);
}

KDLIB_TOOLS_FUNC ServiceAnswer ServiceApi::list_presets(const ApiCall&) {
  JsonWriter json;
  json.begin_object().key("presets").begin_array();
  for (const ServicePreset& p : service_presets())
    json.begin_object()
        .member("name", p.name)
        .member("help", p.help)
        .member("of_distil", p.of_distil)
        .key("settings")
        .raw(p.settings)
        .end_object();
  json.end_array().end_object();
  return detail::json_answer(json);
}

KDLIB_TOOLS_FUNC ServiceAnswer ServiceApi::start(const ApiCall& call) { return start_run(call, false); }
KDLIB_TOOLS_FUNC ServiceAnswer ServiceApi::fine_tune(const ApiCall& call) { return start_run(call, true); }

KDLIB_TOOLS_FUNC ServiceAnswer ServiceApi::start_run(const ApiCall& call, bool fine_tune) {
  const std::string key = replace_invalid_utf8(call.request.header("idempotency-key"));
  RunRecord wanted = read_start(call.body, context(), fine_tune);
  wanted.idempotency_key = key;
  wanted.body = call.request.body;
  const RunRecord* run = store_.find_key(key);
  if (run != nullptr && run->body != call.request.body)
    throw ServiceProblem(409, "Idempotency-Key '" + key + "' came before with another body");
  if (run == nullptr) run = &store_.create(std::move(wanted));
  store_.tick(clock_());
  const std::size_t place = store_.queue_position(run->id);
  JsonWriter json;
  json.begin_object().member("status", "success").member("run_id", run->id).member("state", run_state_name(run->state));
  json.member("message", place > 0 ? concat("run ", run->id, " waits at place ", place)
                                   : concat("run ", run->id, " is ", run_state_name(run->state)));
  double seconds = 0, bytes = 0;
  {
    const std::lock_guard<std::mutex> hold(estimates_->mutex);
    for (const Estimates::Known& e : estimates_->known)
      if (e.arguments == run->arguments) seconds = e.seconds, bytes = e.bytes;
  }
  json.member("queue_position", place).key("estimated_duration_minutes");
  if (seconds > 0) json.value(seconds / 60);
  else json.null();
  json.key("memory_required_gb");
  if (bytes > 0) json.value(bytes / 1e9);
  else json.null();
  json.key("warnings").value(run->warnings).end_object();
  return detail::json_answer(json, 202);
}

KDLIB_TOOLS_FUNC ServiceAnswer ServiceApi::estimate(const ApiCall& call) {
  RunRecord wanted = read_start(call.body, context(), false);
  std::vector<std::string> words = wanted.arguments;
  words.insert(words.end(), {"--dry-run", "--json", "--out=" + join_path(store_.runs(), ".service/estimate")});
  const std::shared_ptr<Estimates> all = estimates_;
  {
    const std::lock_guard<std::mutex> hold(all->mutex);
    if (all->running >= 2) throw ServiceProblem(429, "two estimates are being made; try again in a minute");
    ++all->running;
  }
  const std::shared_ptr<void> count(nullptr, [all](void*) {
    const std::lock_guard<std::mutex> hold(all->mutex);
    --all->running;
  });
  ServiceAnswer out;
  out.later = [distil = join_path(settings_.programs, "distil"), words, count, all, asked = wanted.arguments,
               path = call.request.path] {
    const CapturedChild child = run_captured(distil, words, 60);
    if (child.timed_out) return problem_answer(ServiceProblem(504, "the estimate took more than 60 seconds"), path);
    if (child.status != 0) return problem_answer(ServiceProblem(422, detail::child_sentence(child)), path);
    ServiceAnswer answer;
    answer.body = child.out;
    const Json plan = Json::parse(child.out, "distil --dry-run");
    const std::lock_guard<std::mutex> hold(all->mutex);
    if (all->known.size() >= 64) all->known.erase(all->known.begin());
    all->known.push_back({asked, plan.double_or("total_seconds", 0), plan.at("memory_bytes").double_or("total", 0)});
    return answer;
  };
  return out;
}

KDLIB_TOOLS_FUNC std::string ServiceApi::chosen_run(const std::string& asked) const {
  if (!asked.empty()) return store_.get(asked).id;
  const std::vector<const RunRecord*> runs = store_.newest_first();
  for (const RunRecord* r : runs)
    if (is_active(r->state)) return r->id;
  return runs.empty() ? std::string() : runs[0]->id;
}

KDLIB_TOOLS_FUNC ServiceAnswer ServiceApi::stop(const ApiCall& call) {
  const std::string id = chosen_run(call.body.string_or("run_id", ""));
  if (id.empty() || (!is_open(store_.get(id).state) && !store_.get(id).stop_asked))
    throw ServiceProblem(
        409, id.empty() ? "no run is there"
                        : concat("run ", id, " is ", run_state_name(store_.get(id).state), ": nothing to stop"));
  store_.stop(id, call.body.bool_or("force", false), clock_());
  store_.tick(clock_());
  if (!is_open(store_.get(id).state)) return stop_answer(id);
  ServiceAnswer out;  // a run needs a moment to save: whoever asks waits up to ten seconds for it
  out.ready = [this, id, path = call.request.path, until = clock_() + 10](ServiceAnswer& answer) {
    const RunRecord* run = store_.find(id);
    if (run != nullptr && is_open(run->state) && clock_() < until) return false;
    answer = run != nullptr ? stop_answer(id) : problem_answer(ServiceProblem(404, "the run was removed"), path);
    return true;
  };
  return out;
}

namespace detail {
/// The name of the newest of a run's checkpoints; empty where there is none.
KDLIB_TOOLS_FUNC std::string newest_checkpoint(const std::string& folder) {
  std::string newest;
  if (!path_exists(folder)) return newest;
  for (const std::string& name : list_directory(folder))
    if (name.find_first_not_of("0123456789") == std::string::npos &&
        (name.size() > newest.size() || (name.size() == newest.size() && name > newest)))
      newest = name;
  return newest;
}

}  // namespace detail

KDLIB_TOOLS_FUNC ServiceAnswer ServiceApi::stop_answer(const std::string& id) {
  const RunRecord& r = store_.get(id);
  const RunPhase phase = store_.phase(id);
  const std::string folder = join_path(store_.folder(id), "checkpoints"), newest = detail::newest_checkpoint(folder);
  JsonWriter json;
  json.begin_object().member("status", is_open(r.state) ? "stopping" : "stopped").member("run_id", id);
  json.member("final_step", phase.step).key("checkpoint_path");
  if (!newest.empty()) json.value(replace_invalid_utf8(join_path(folder, newest)));
  else json.null();
  json.member("message", is_open(r.state) ? "the run saves and stops; watch its state" : "the run has stopped")
      .end_object();
  return detail::json_answer(json, is_open(r.state) ? 202 : 200);
}

KDLIB_TOOLS_FUNC ServiceAnswer ServiceApi::resume(const ApiCall& call) {
  const std::string id = store_.get(std::string(call.body.at("run_id").as_string())).id;
  std::vector<std::string> words;
  if (const auto settings = call.body.find("settings")) words = setting_words(*settings, context(), "settings");
  store_.resume(id, words);
  store_.tick(clock_());
  JsonWriter json;
  json.begin_object()
      .member("status", "success")
      .member("run_id", id)
      .member("state", run_state_name(store_.get(id).state));
  json.member("queue_position", store_.queue_position(id)).end_object();
  return detail::json_answer(json, 202);
}

KDLIB_TOOLS_FUNC void ServiceApi::write_run(JsonWriter& json, const RunRecord& r) {
  json.begin_object().member("run_id", r.id).member("kind", r.kind).member("status", run_state_name(r.state));
  json.member("reason", r.reason).member("detail", r.detail);
  detail::write_time(json, "created_at", r.created);
  detail::write_time(json, "started_at", r.started);
  detail::write_time(json, "completed_at", r.ended);
  const detail::LastMetrics last = detail::last_metrics(store_.tail(r.id));
  json.member("final_kl_loss", detail::metric(last.evaluation, "evaluation/forward_kl"));
  json.member("teacher_model", replace_invalid_utf8(r.teacher))
      .member("student_model", replace_invalid_utf8(r.student));
  json.member("student_adapter", replace_invalid_utf8(r.adapter)).member("label", r.label).key("tags").value(r.tags);
  json.member("device", r.device)
      .member("preset", r.preset)
      .member("session_id", r.session)
      .member("attempts", r.attempts);
  json.member("total_steps", r.total_steps).member("queue_position", store_.queue_position(r.id)).end_object();
}

KDLIB_TOOLS_FUNC ServiceAnswer ServiceApi::list_runs(const ApiCall& call) {
  const std::string state = call.query("state"), tag = call.query("tag");
  const std::int64_t limit = call.query_int("limit", 100), cursor = call.query_int("cursor", 0);
  JsonWriter json(JsonStyle{0, NonFinite::null});
  json.begin_object().key("runs").begin_array();
  std::int64_t shown = 0, next = 0;
  for (const RunRecord* r : store_.newest_first()) {
    if (cursor > 0 && r->order >= cursor) continue;
    if (!state.empty() && state != run_state_name(r->state)) continue;
    if (!tag.empty() && std::find(r->tags.begin(), r->tags.end(), tag) == r->tags.end()) continue;
    if (shown++ == limit) break;
    next = r->order;
    write_run(json, *r);
  }
  json.end_array().key("next_cursor");
  if (shown > limit) json.value(next);
  else json.null();
  json.end_object();
  return detail::json_answer(json);
}

KDLIB_TOOLS_FUNC ServiceAnswer ServiceApi::show_run(const ApiCall& call) {
  const RunRecord& r = store_.get(call.part("id"));
  JsonWriter json(JsonStyle{0, NonFinite::null});
  json.begin_object().key("run");
  write_run(json, r);
  json.key("arguments").begin_array();
  for (const std::string& a : r.arguments) json.value(replace_invalid_utf8(a));
  json.end_array()
      .key("warnings")
      .value(r.warnings)
      .member("folder", replace_invalid_utf8(store_.folder(r.id)))
      .end_object();
  return detail::json_answer(json);
}

KDLIB_TOOLS_FUNC ServiceAnswer ServiceApi::delete_run(const ApiCall& call) {
  const std::string id = store_.get(call.part("id")).id;
  store_.remove(id);
  JsonWriter json;
  json.begin_object().member("status", "removed").member("run_id", id).end_object();
  return detail::json_answer(json);
}

KDLIB_TOOLS_FUNC ServiceAnswer ServiceApi::compare(const ApiCall& call) {
  CompareRequest r;
  for (const Json& m : call.body.at("models"))
    r.models.push_back(
        {std::string(m.at("name").as_string()), roots_.checked(std::string(m.at("model_path").as_string())),
         m.contains("adapter_path") ? roots_.checked(std::string(m.at("adapter_path").as_string())) : ""});
  for (std::size_t i = 0; i < r.models.size(); ++i)
    for (std::size_t k = 0; k < i; ++k)
      if (r.models[i].name == r.models[k].name)
        throw ServiceProblem(422, "two models are called " + r.models[i].name, {{"models", "have one name twice"}});
  r.reference = call.body.string_or("reference", "");
  const bool known = r.reference.empty() || std::any_of(r.models.begin(), r.models.end(),
                                                        [&](const ComparedModel& m) { return m.name == r.reference; });
  if (!known)
    throw ServiceProblem(422, "reference '" + r.reference + "' is the name of no model",
                         {{"reference", "is no model"}});
  if (call.body.contains("prompt") == call.body.contains("messages"))
    throw ServiceProblem(422, "give a prompt or messages, one of them", {{"prompt", "is needed, or messages"}});
  JsonWriter line;
  if (const auto prompt = call.body.find("prompt"))
    line.begin_object().member("prompt", prompt->as_string()).end_object();
  else {
    line.begin_object().key("messages").begin_array();
    for (const Json& m : call.body.at("messages"))
      line.begin_object()
          .member("role", m.at("role").as_string())
          .member("content", m.at("content").as_string())
          .end_object();
    line.end_array().end_object();
  }
  r.prompt_line = line.text();
  r.chat = call.body.bool_or("chat", false);
  for (const auto& [field, flag] :
       {std::pair("max_new_tokens", "max-new-tokens"), std::pair("temperature", "temperature"),
        std::pair("top_k", "top-k"), std::pair("top_p", "top-p"), std::pair("seed", "seed")})
    if (const auto value = call.body.find(field)) {
      const FlagRule rule{
          flag, std::string(field) == "temperature" || std::string(field) == "top_p" ? "number" : "integer",
          "",   "",
          "",   "",
          "",   {},
          {},   {},
          {}};
      r.sampler.push_back(concat("--", flag, "=", FlagTable::words(rule, *value)[0]));
    }
  r.programs = settings_.programs;
  r.folder = join_path(store_.runs(), ".service/compare");
  auto [id, work] = comparisons_.add(std::move(r));
  submit_(std::move(work));
  JsonWriter json;
  json.begin_object().member("status", "success").member("id", id).end_object();
  return detail::json_answer(json, 202);
}

KDLIB_TOOLS_FUNC ServiceAnswer ServiceApi::comparison(const ApiCall& call) {
  ServiceAnswer out;
  out.body = comparisons_.json(call.part("id"));
  return out;
}

KDLIB_NAMESPACE_END

#endif
