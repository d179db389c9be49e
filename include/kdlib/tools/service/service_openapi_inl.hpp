// SPDX-License-Identifier: Apache-2.0
// The OpenAPI document of service_api.hpp, made from the table that dispatches.
#ifndef KDLIB_TOOLS_SERVICE_SERVICE_OPENAPI_INL_HPP
#define KDLIB_TOOLS_SERVICE_SERVICE_OPENAPI_INL_HPP

#include <algorithm>

#include "kdlib/io/json_writer.hpp"
#include "kdlib/tools/service/service_api.hpp"
#include "kdlib/version.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {
KDLIB_TOOLS_FUNC void write_parameters(JsonWriter& json, const ApiEndpoint& e, const FlagTable& flags) {
  json.key("parameters").begin_array();
  for (std::size_t at = 0; (at = e.path.find('{', at)) != std::string::npos; ++at) {
    const std::string name = e.path.substr(at + 1, e.path.find('}', at) - at - 1);
    json.begin_object().member("name", name).member("in", "path").member("required", true).key("schema");
    json.begin_object()
        .member("type", "string")
        .member("minLength", 1)
        .member("maxLength", 80)
        .end_object()
        .end_object();
  }
  for (const ApiField& f : e.query) {
    json.begin_object().member("name", f.name).member("in", "query").member("required", f.required).key("schema");
    write_field_schema(json, f, flags);
    json.end_object();
  }
  json.end_array();
}

/// "get_opd_status" for GET /api/v1/opd/status.
KDLIB_TOOLS_FUNC std::string operation_id(const ApiEndpoint& e) {
  std::string out = e.method + e.path.substr(std::string_view("/api/v1").size());
  for (char& c : out)
    c = c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : is_plain_name(std::string_view(&c, 1)) ? c : '_';
  return out;
}

/// Where an answer's run or comparison goes on: what other requests take of it. Events, which do not end while a run
/// goes on, are left out.
KDLIB_TOOLS_FUNC void write_links(JsonWriter& json, const ApiEndpoint& e, const std::vector<ApiEndpoint>& all) {
  const bool compares = e.path == "/api/v1/compare",
             starts = e.path == "/api/v1/opd/start" || e.path == "/api/v1/opd/fine_tune";
  if (!compares && !starts) return;
  json.key("links").begin_object();
  for (const ApiEndpoint& o : all) {
    const bool below = o.path.find(compares ? "/compare/{id}" : "/runs/{id}") != std::string::npos;
    const auto takes_run = [](const std::vector<ApiField>& fields) {
      return std::any_of(fields.begin(), fields.end(), [](const ApiField& f) { return f.name == "run_id"; });
    };
    const bool query = starts && takes_run(o.query), body = starts && takes_run(o.body) && o.body.size() == 2;
    if ((!below && !query && !body) || o.type == "text/event-stream") continue;
    json.key(operation_id(o)).begin_object().member("operationId", operation_id(o));
    const char* from = compares ? "$response.body#/id" : "$response.body#/run_id";
    json.key(body ? "requestBody" : "parameters").begin_object();
    json.member(below ? "id" : "run_id", from).end_object().end_object();
  }
  json.end_object();
}

KDLIB_TOOLS_FUNC void write_responses(JsonWriter& json, const ApiEndpoint& e,
                                      const std::vector<ApiEndpoint>& endpoints) {
  std::vector<int> all = e.statuses;
  for (const int s : {400, 401, 403, 404, 405, 406, 408, 413, 415, 422, 429, 431, 500, 503})
    if (std::find(all.begin(), all.end(), s) == all.end()) all.push_back(s);
  json.key("responses").begin_object();
  for (const int s : all) {
    const bool good = s < 300;
    json.key(std::to_string(s)).begin_object().member("description", status_title(s)).key("content").begin_object();
    json.key(good ? e.type : "application/problem+json").begin_object().key("schema").begin_object();
    if (!good) json.member("$ref", "#/components/schemas/Problem");
    else if (e.type == "application/json") json.member("type", "object");
    else json.member("type", "string");
    json.end_object().end_object();
    if (good && e.path.find("/downloads/") != std::string::npos)
      for (const char* other : {"application/x-tar", "text/html"})
        json.key(other).begin_object().key("schema").begin_object().member("type", "string").end_object().end_object();
    json.end_object();
    if (s == 202) write_links(json, e, endpoints);
    json.end_object();
  }
  json.end_object();
}
}  // namespace detail

namespace detail {
KDLIB_TOOLS_FUNC void write_components(JsonWriter& json) {
  json.key("components").begin_object().key("securitySchemes").begin_object().key("bearer").begin_object();
  json.member("type", "http")
      .member("scheme", "bearer")
      .end_object()
      .end_object()
      .key("schemas")
      .begin_object()
      .key("Problem");
  json.begin_object()
      .member("type", "object")
      .key("required")
      .begin_array()
      .value("title")
      .value("status")
      .value("detail")
      .end_array();
  json.key("properties").begin_object();
  for (const char* name : {"type", "title", "detail", "instance"})
    json.key(name).begin_object().member("type", "string").end_object();
  json.key("status").begin_object().member("type", "integer").end_object();
  json.key("errors")
      .begin_object()
      .member("type", "array")
      .key("items")
      .begin_object()
      .member("type", "object")
      .end_object()
      .end_object();
  json.end_object().end_object().end_object().end_object();
}
}  // namespace detail

KDLIB_TOOLS_FUNC std::string ServiceApi::openapi() const {
  JsonWriter json(JsonStyle{1});
  json.begin_object()
      .member("openapi", "3.0.3")
      .key("info")
      .begin_object()
      .member("title", "kdlib serve")
      .member("version", KDLIB_VERSION_STRING);
  json.member("description", "Distillation on a machine of one's own: start, watch, compare, take home.").end_object();
  json.key("security").begin_array().begin_object().key("bearer").begin_array().end_array().end_object().end_array();
  json.key("paths").begin_object();
  for (std::size_t i = 0; i < endpoints_.size(); ++i) {
    const std::string& path = endpoints_[i].path;
    if (std::any_of(endpoints_.begin(), endpoints_.begin() + static_cast<std::ptrdiff_t>(i),
                    [&](const ApiEndpoint& e) { return e.path == path; }))
      continue;
    json.key(path).begin_object();
    for (const ApiEndpoint& e : endpoints_) {
      if (e.path != path) continue;
      std::string method = e.method;
      for (char& c : method) c = static_cast<char>(c - 'A' + 'a');
      json.key(method).begin_object().member("operationId", detail::operation_id(e)).member("summary", e.summary);
      if (e.open) json.key("security").begin_array().end_array();
      detail::write_parameters(json, e, flags_);
      if (e.has_body) {
        json.key("requestBody")
            .begin_object()
            .member("required", true)
            .key("content")
            .begin_object()
            .key("application/json");
        json.begin_object().key("schema");
        write_schema(json, e.body, flags_);
        json.end_object().end_object().end_object();
      }
      detail::write_responses(json, e, endpoints_);
      json.end_object();
    }
    json.end_object();
  }
  json.end_object();
  detail::write_components(json);
  return json.end_object().text();
}

KDLIB_NAMESPACE_END

#endif
