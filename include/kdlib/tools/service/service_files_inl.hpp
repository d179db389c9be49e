// SPDX-License-Identifier: Apache-2.0
// Handlers of service_api.hpp that give out files, curves and events; the OpenAPI document.
#ifndef KDLIB_TOOLS_SERVICE_SERVICE_FILES_INL_HPP
#define KDLIB_TOOLS_SERVICE_SERVICE_FILES_INL_HPP

#include <unistd.h>

#include <algorithm>
#include <cmath>

#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/paths.hpp"
#include "kdlib/text/unicode.hpp"
#include "kdlib/tools/service/metrics_tail.hpp"
#include "kdlib/tools/service/service_api.hpp"
#include "kdlib/tools/service/service_runs_inl.hpp"
#include "kdlib/tools/service/tar_stream.hpp"
#include "kdlib/version.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_TOOLS_FUNC ServiceAnswer ServiceApi::list_files(const ApiCall& call) {
  JsonWriter json;
  roots_.list(json, static_cast<std::size_t>(call.query_int("root", 0)), call.query("path"));
  return detail::json_answer(json);
}

namespace detail {
/// A small text file of a run that need not be there.
KDLIB_TOOLS_FUNC std::string run_text(const AllowedRoots& roots, const std::string& path, const char* what) {
  std::uint64_t size = 0;
  const FileDescriptor fd(roots.open_file(path, size));
  if (size > (16u << 20)) throw ServiceProblem(404, concat(what, " is larger than 16 MiB"));
  return read_range(fd.get(), 0, size);
}
}  // namespace detail

KDLIB_TOOLS_FUNC ServiceAnswer ServiceApi::run_config(const ApiCall& call) {
  const std::string id = store_.get(call.part("id")).id;
  JsonWriter json;
  json.begin_object().member("run_id", id);
  json.member("config", replace_invalid_utf8(
                            detail::run_text(roots_, join_path(store_.folder(id), "config.yaml"), "config.yaml")))
      .end_object();
  return detail::json_answer(json);
}

KDLIB_TOOLS_FUNC ServiceAnswer ServiceApi::run_result(const ApiCall& call) {
  const std::string id = store_.get(call.part("id")).id;
  ServiceAnswer out;
  out.body = detail::run_text(roots_, join_path(store_.folder(id), "result.json"), "result.json");
  return out;
}

KDLIB_TOOLS_FUNC ServiceAnswer ServiceApi::run_log(const ApiCall& call) {
  const std::string id = store_.get(call.part("id")).id;
  std::uint64_t size = 0;
  const detail::FileDescriptor fd(roots_.open_file(store_.log_path(id), size));
  const std::uint64_t limit = static_cast<std::uint64_t>(call.query_int("limit", 65536));
  const std::uint64_t end_default = size > limit ? size - limit : 0;
  const std::uint64_t offset =
      std::min(size, static_cast<std::uint64_t>(call.query_int("offset", static_cast<std::int64_t>(end_default))));
  const std::string text = detail::read_range(fd.get(), offset, std::min(size, offset + limit));
  JsonWriter json;
  json.begin_object().member("run_id", id).member("offset", offset).member("next_offset", offset + text.size());
  json.member("size", size).member("text", replace_invalid_utf8(text)).end_object();
  return detail::json_answer(json);
}

KDLIB_TOOLS_FUNC ServiceAnswer ServiceApi::run_files(const ApiCall& call) {
  const std::string id = store_.get(call.part("id")).id;
  JsonWriter json;
  roots_.list(json, roots_.folders().size() - 1, id);
  return detail::json_answer(json);
}

KDLIB_TOOLS_FUNC ServiceAnswer ServiceApi::make_ticket(const ApiCall& call) {
  const std::string id = store_.get(call.part("id")).id;
  const std::string path(call.body.at("path").as_string());
  if (path[0] == '/')
    throw ServiceProblem(403, "path must be relative to the run's folder", {{"path", "must be relative"}});
  const AllowedRoots run({store_.folder(id)});
  run.checked(path);
  const double now = clock_();
  std::erase_if(tickets_, [&](const Ticket& t) { return t.until < now; });
  if (tickets_.size() >= 1000) throw ServiceProblem(429, "a thousand tickets are open; wait a minute");
  tickets_.push_back({random_hex(32), id, path, now + 60});
  JsonWriter json;
  json.begin_object().member("url", "/api/v1/downloads/" + tickets_.back().id).member("seconds", 60).end_object();
  return detail::json_answer(json);
}

KDLIB_TOOLS_FUNC ServiceAnswer ServiceApi::download(const ApiCall& call) {
  const std::string asked = call.part("ticket");
  const double now = clock_();
  const auto at = std::find_if(tickets_.begin(), tickets_.end(),
                               [&](const Ticket& t) { return same_secret(t.id, asked) && t.until >= now; });
  if (at == tickets_.end()) throw ServiceProblem(404, "this address was used already, or is older than 60 seconds");
  const Ticket ticket = *at;
  tickets_.erase(at);
  const AllowedRoots run({store_.folder(ticket.run)});
  const std::string path = run.checked(ticket.path);
  const std::string name = ticket.path == "." ? ticket.run : file_name(path);
  std::string shown;
  for (const char c : name) shown += is_plain_name(std::string("a") + c) ? c : '_';
  ServiceAnswer out;
  out.type = "application/octet-stream";
  if (is_directory(path)) {
    const auto tar = std::make_shared<TarStream>(path, ticket.run + "-" + shown);
    out.type = "application/x-tar";
    out.headers.emplace_back("Content-Disposition", "attachment; filename=\"" + ticket.run + "-" + shown + ".tar\"");
    out.producer = [tar](std::string& piece) { return tar->next(piece); };
    return out;
  }
  std::uint64_t size = 0;
  const auto file = std::make_shared<detail::FileDescriptor>(run.open_file(ticket.path, size));
  const bool html = name == "report.html";
  if (html) {
    out.type = "text/html; charset=utf-8";
    out.headers.emplace_back(
        "Content-Security-Policy",
        "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; frame-ancestors 'self'");
  } else {
    out.headers.emplace_back("Content-Disposition", "attachment; filename=\"" + ticket.run + "-" + shown + "\"");
  }
  out.producer = [file, done = std::uint64_t{0}, size](std::string& piece) mutable {
    piece = detail::read_range(file->get(), done, std::min<std::uint64_t>(size, done + (1 << 16)));
    done += piece.size();
    return !piece.empty();
  };
  return out;
}

KDLIB_TOOLS_FUNC ServiceAnswer ServiceApi::events(const ApiCall& call) {
  std::int64_t from = call.query_int("from_step", 0);
  if (const std::string_view last = call.request.header("last-event-id"); !last.empty()) {
    char* end = nullptr;
    from = std::strtoll(std::string(last).c_str(), &end, 10);
  }
  ServiceAnswer out;
  out.type = "text/event-stream";
  out.events = std::make_shared<RunEvents>(store_, call.part("id"), from);
  return out;
}

namespace detail {
KDLIB_TOOLS_FUNC std::vector<std::string> split_list(const std::string& text) {
  std::vector<std::string> out;
  for (std::size_t begin = 0; begin <= text.size();) {
    const std::size_t end = std::min(text.find(',', begin), text.size());
    if (end > begin) out.push_back(text.substr(begin, end - begin));
    begin = end + 1;
  }
  return out;
}

/// All lines of a run from a step on, parsed; at most 64 MiB of text.
KDLIB_TOOLS_FUNC std::vector<Json> metric_lines(const MetricsTail& tail, std::int64_t from_step) {
  const std::size_t first = from_step > 0 ? tail.find_step(from_step) : 0;
  std::size_t last = first;
  while (last < tail.size() && tail.bytes(first, last) < (64u << 20)) ++last;
  return parsed_lines(tail, first, last);
}
}  // namespace detail

KDLIB_TOOLS_FUNC ServiceAnswer ServiceApi::metrics(const ApiCall& call) {
  const RunRecord& r = store_.get(call.query("run_id"));
  const bool reverse = detail::is_reverse(r);
  const std::vector<std::string> names = detail::split_list(call.query("names"));
  const auto wanted = [&](std::string_view key) {
    return names.empty() || std::find(names.begin(), names.end(), key) != names.end();
  };
  std::vector<Json> lines = detail::metric_lines(store_.tail(r.id), call.query_int("from_step", 0));
  double best = std::nan("");
  std::int64_t best_step = -1;
  std::vector<Json> training;
  std::vector<double> values;
  for (const Json& line : lines) {
    const double kl = detail::metric(line, "evaluation/forward_kl");
    if (std::isfinite(kl) && !(kl >= best)) best = kl, best_step = line.int_or("step", 0);
    if (!line.contains("train/loss")) continue;
    training.push_back(line);
    values.push_back(detail::metric(line, reverse ? "train/reverse_kl" : "train/forward_kl"));
  }
  JsonWriter json(JsonStyle{0, NonFinite::null});
  json.begin_object().member("run_id", r.id).member("total_steps", r.total_steps).key("metrics_history").begin_array();
  for (const std::size_t i : keep_extremes(values, static_cast<std::size_t>(call.query_int("max_points", 1000000)))) {
    const Json& line = training[i];
    json.begin_object().member("step", line.int_or("step", 0));
    write_interface_metrics(json, line, reverse);
    const double time = detail::metric(line, "time");
    json.key("timestamp");
    // A resumed run's seconds leave out the time between its attempts.
    if (std::isfinite(time) && r.started > 0 && r.attempts == 1) json.value(time_text(r.started + time));
    else json.null();
    json.key("values").begin_object();
    for (const auto& [key, value] : line.members())
      if (key != "step" && wanted(key)) json.member(key, detail::metric(line, key));
    json.end_object().end_object();
  }
  json.end_array().key("best_checkpoint");
  if (best_step < 0) json.null();
  else
    json.begin_object()
        .member("step", best_step)
        .member("val_kl_loss", best)
        .member("path", replace_invalid_utf8(join_path(store_.folder(r.id), "best")))
        .end_object();
  json.end_object();
  return detail::json_answer(json);
}

KDLIB_TOOLS_FUNC ServiceAnswer ServiceApi::series(const ApiCall& call) {
  const std::vector<std::string> names = detail::split_list(call.query("names"));
  const std::size_t most = static_cast<std::size_t>(call.query_int("max_points", 2000));
  JsonWriter json(JsonStyle{0, NonFinite::null});
  json.begin_object().key("series").begin_array();
  for (const std::string& id : detail::split_list(call.query("run_id"))) {
    const std::vector<Json> lines = detail::metric_lines(store_.tail(store_.get(id).id), 0);
    for (const std::string& name : names) {
      std::vector<double> values, steps;
      for (const Json& line : lines)
        if (line.contains(name))
          values.push_back(detail::metric(line, name)), steps.push_back(line.double_or("step", 0));
      const std::vector<std::size_t> kept = keep_extremes(values, most);
      json.begin_object().member("run_id", id).member("name", name).key("steps").begin_array();
      for (const std::size_t i : kept) json.value(steps[i]);
      json.end_array().key("values").begin_array();
      for (const std::size_t i : kept) json.value(values[i]);
      json.end_array().end_object();
    }
  }
  json.end_array().end_object();
  return detail::json_answer(json);
}

KDLIB_NAMESPACE_END

#endif
