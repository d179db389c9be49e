// SPDX-License-Identifier: Apache-2.0
// Bodies of service_api.hpp: who may ask what, and who answers.
#ifndef KDLIB_TOOLS_SERVICE_SERVICE_API_INL_HPP
#define KDLIB_TOOLS_SERVICE_SERVICE_API_INL_HPP

#include <algorithm>
#include <cstdlib>

#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/paths.hpp"
#include "kdlib/text/unicode.hpp"
#include "kdlib/tools/service/service_api.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_TOOLS_FUNC std::string ApiCall::part(std::string_view name) const {
  for (const auto& [key, value] : path)
    if (key == name) return value;
  return {};
}
KDLIB_TOOLS_FUNC std::string ApiCall::query(std::string_view name, const std::string& otherwise) const {
  for (const auto& [key, value] : request.query)
    if (key == name) return value;
  return otherwise;
}
KDLIB_TOOLS_FUNC std::int64_t ApiCall::query_int(std::string_view name, std::int64_t otherwise) const {
  const std::string text = query(name);
  return text.empty() ? otherwise : static_cast<std::int64_t>(std::strtod(text.c_str(), nullptr));
}

namespace detail {
KDLIB_TOOLS_FUNC std::vector<std::string> with_runs(std::vector<std::string> roots, const std::string& runs) {
  roots.push_back(runs);
  return roots;
}

KDLIB_TOOLS_FUNC FlagTable ask_for_flags(const std::string& programs) {
  const std::string distil = join_path(programs, "distil");
  require<IoError>(path_exists(distil), "[serve] there is no ", distil, "; give the folder of the programs by --bin");
  const CapturedChild child = run_captured(distil, {"--schema"}, 30);
  require<IoError>(child.status == 0, "[serve] ", distil, " --schema ended with status ", child.status,
                   ": is this distil as old as the service?");
  return FlagTable(Json::parse(child.out, distil + " --schema"));
}

/// Whether an Accept header allows a type: "*/*", "application/*", the type itself; an empty one allows all.
KDLIB_TOOLS_FUNC bool accepts(std::string_view header, std::string_view type) {
  if (header.empty()) return true;
  const std::string any = std::string(type.substr(0, type.find('/'))) + "/*";
  while (!header.empty()) {
    const std::size_t end = header.find(',');
    std::string_view one = header.substr(0, end);
    const bool refused = one.find(";q=0") != std::string_view::npos &&
                         one.find_first_of("123456789", one.find(";q=0") + 4) == std::string_view::npos;
    one = one.substr(0, one.find(';'));
    while (!one.empty() && (one.front() == ' ' || one.front() == '\t')) one.remove_prefix(1);
    while (!one.empty() && (one.back() == ' ' || one.back() == '\t')) one.remove_suffix(1);
    if (!refused && (one == "*/*" || one == any || one == type)) return true;
    header = end == std::string_view::npos ? std::string_view() : header.substr(end + 1);
  }
  return false;
}

KDLIB_TOOLS_FUNC bool match_path(std::string_view pattern, std::string_view path,
                                 std::vector<std::pair<std::string, std::string>>& parts) {
  parts.clear();
  while (!pattern.empty() && !path.empty()) {
    if (pattern[0] != '{') {
      if (pattern[0] != path[0]) return false;
      pattern.remove_prefix(1), path.remove_prefix(1);
      continue;
    }
    const std::size_t end = pattern.find('}'), slash = std::min(path.find('/'), path.size());
    if (slash == 0) return false;
    parts.emplace_back(std::string(pattern.substr(1, end - 1)), std::string(path.substr(0, slash)));
    pattern.remove_prefix(end + 1), path.remove_prefix(slash);
  }
  return pattern.empty() && path.empty();
}
}  // namespace detail

KDLIB_TOOLS_FUNC ServiceApi::ServiceApi(const ServiceSettings& settings, std::vector<PageFile> page,
                                        std::function<void(std::function<void()>)> submit,
                                        std::function<double()> clock)
    : settings_(settings),
      page_(std::move(page)),
      submit_(std::move(submit)),
      clock_(std::move(clock)),
      store_(settings),
      roots_(detail::with_runs(settings.roots, store_.runs())),
      flags_(detail::ask_for_flags(settings.programs)),
      guard_(settings),
      endpoints_(make_endpoints()) {
  store_.give_status_files(flags_.gives_status());
}

KDLIB_TOOLS_FUNC ServiceAnswer ServiceApi::page(const ServiceRequest& request) const {
  const std::string path = request.path == "/" ? "/index.html" : request.path;
  for (const PageFile& file : page_) {
    if (path != file.path) continue;
    if (request.method != "GET" && request.method != "HEAD") throw ServiceProblem(405, "the page is read by GET");
    ServiceAnswer out;
    out.type = file.type;
    out.body = settings_.web.empty() ? std::string(reinterpret_cast<const char*>(file.data), file.size)
                                     : read_file(join_path(settings_.web, path.substr(1)), 4 << 20);
    return out;
  }
  throw ServiceProblem(404, "there is nothing at " + replace_invalid_utf8(request.path));
}

KDLIB_TOOLS_FUNC ServiceAnswer ServiceApi::answer(const ServiceRequest& request) {
  if (auto refused = guard_.check_place(request)) throw *refused;
  ServiceRequest asked = request;
  if (asked.path.compare(0, 5, "/opd/") == 0) asked.path = "/api/v1" + asked.path;  // the interface's bare paths
  if (asked.path.compare(0, 5, "/api/") != 0) return page(asked);
  ApiCall call{asked, {}};
  std::string allowed;
  const ApiEndpoint* endpoint = nullptr;
  for (const ApiEndpoint& e : endpoints_) {
    std::vector<std::pair<std::string, std::string>> parts;
    if (!detail::match_path(e.path, asked.path, parts)) continue;
    allowed += (allowed.empty() ? "" : ", ") + e.method;
    if (e.method == asked.method || (asked.method == "HEAD" && e.method == "GET")) {
      endpoint = &e;
      call.path = std::move(parts);
    }
  }
  if (endpoint == nullptr || !endpoint->open)
    if (auto refused = guard_.check_token(ServiceGuard::bearer(request), clock_())) throw *refused;
  if (endpoint == nullptr && allowed.empty())
    throw ServiceProblem(404, "there is nothing at " + replace_invalid_utf8(request.path));
  if (endpoint == nullptr) {
    ServiceAnswer refused =
        problem_answer(ServiceProblem(405, asked.method + " is not allowed here; allowed: " + allowed), request.path);
    refused.headers.emplace_back("Allow", allowed);
    return refused;
  }
  return dispatch(*endpoint, call);
}

KDLIB_TOOLS_FUNC ServiceAnswer ServiceApi::dispatch(const ApiEndpoint& endpoint, ApiCall& call) {
  const bool file = endpoint.type == "application/octet-stream";  // which one is known behind the ticket
  if (const std::string_view accept = call.request.header("accept"); !file && !detail::accepts(accept, endpoint.type))
    throw ServiceProblem(406, concat("Accept is '", replace_invalid_utf8(accept), "'; this is ", endpoint.type));
  check_query(call.request.query, endpoint.query);
  if (endpoint.has_body) {
    const std::string_view type = call.request.header("content-type");
    if (type.substr(0, type.find(';')) != "application/json")
      throw ServiceProblem(415,
                           concat("Content-Type is '", replace_invalid_utf8(type), "'; it must be application/json"));
    try {
      call.body = Json::parse(call.request.body, "the body");
    } catch (const FormatError& error) {
      throw ServiceProblem(400, error.what());
    }
    check_body(call.body, endpoint.body, flags_);
  }
  return (this->*endpoint.handler)(call);
}

KDLIB_TOOLS_FUNC ServiceAnswer ServiceApi::handle(const ServiceRequest& request) {
  try {
    return answer(request);
  } catch (const ServiceProblem& problem) {
    ServiceAnswer refused = problem_answer(problem, request.path);
    if (problem.status() == 401) refused.headers.emplace_back("WWW-Authenticate", "Bearer");
    if (problem.status() == 429) refused.headers.emplace_back("Retry-After", "60");
    return refused;
  } catch (const std::exception& error) {
    return problem_answer(ServiceProblem(500, error.what()), request.path);
  }
}

KDLIB_TOOLS_FUNC std::optional<ServiceAnswer> ServiceApi::check_socket(const ServiceRequest& request) {
  try {
    if (auto refused = guard_.check_place(request)) throw *refused;
    if (request.header("origin").empty() && !request.header("sec-fetch-mode").empty())
      throw ServiceProblem(403, "a browser's WebSocket must send its Origin");
    std::vector<std::pair<std::string, std::string>> parts;
    // Whether the run is there is told only behind the token.
    if (!detail::match_path("/api/v1/runs/{id}/events", request.path, parts))
      throw ServiceProblem(404, "no WebSocket is here");
    return std::nullopt;
  } catch (const ServiceProblem& problem) {
    return problem_answer(problem, request.path);
  }
}

KDLIB_TOOLS_FUNC std::shared_ptr<RunEvents> ServiceApi::open_socket(const ServiceRequest& request,
                                                                    const std::string& first) {
  try {
    const Json message = Json::parse(first, "the first message");
    if (guard_.check_token(message.string_or("token", ""), clock_())) return nullptr;
    std::vector<std::pair<std::string, std::string>> parts;
    detail::match_path("/api/v1/runs/{id}/events", request.path, parts);
    return std::make_shared<RunEvents>(store_, parts.at(0).second, message.int_or("from_step", 0));
  } catch (const std::exception&) {
    return nullptr;
  }
}

KDLIB_NAMESPACE_END

#endif
