// SPDX-License-Identifier: Apache-2.0
// Bodies of guard.hpp.
#ifndef KDLIB_TOOLS_SERVICE_GUARD_INL_HPP
#define KDLIB_TOOLS_SERVICE_GUARD_INL_HPP

#include <algorithm>

#include "kdlib/text/unicode.hpp"
#include "kdlib/tools/service/guard.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {
/// "name:port", "[v6]:port" or "name"; false where the port is no number.
KDLIB_TOOLS_FUNC bool split_host(std::string_view host, std::string& name, std::string& port) {
  std::size_t colon = host.rfind(':');
  const std::size_t bracket = host.rfind(']');
  if (bracket != std::string_view::npos && colon != std::string_view::npos && colon < bracket)
    colon = std::string_view::npos;
  name = std::string(host.substr(0, colon));
  port = colon == std::string_view::npos ? std::string() : std::string(host.substr(colon + 1));
  for (char& c : name)
    if (c >= 'A' && c <= 'Z') c = static_cast<char>(c - 'A' + 'a');
  const bool digits = std::all_of(port.begin(), port.end(), [](char c) { return c >= '0' && c <= '9'; });
  return !name.empty() && digits && port.size() <= 5 && (colon == std::string_view::npos || !port.empty());
}
}  // namespace detail

KDLIB_TOOLS_FUNC std::optional<ServiceProblem> ServiceGuard::check_place(const ServiceRequest& request) const {
  const std::string_view host = request.header("host");
  std::string name, port;
  std::vector<std::string> ours{"localhost", "127.0.0.1", "[::1]", settings_.host};
  ours.insert(ours.end(), settings_.allow_hosts.begin(), settings_.allow_hosts.end());
  if (!detail::split_host(host, name, port) || std::find(ours.begin(), ours.end(), name) == ours.end())
    return ServiceProblem(403, concat("Host is '", replace_invalid_utf8(host),
                                      "'; serve answers to its own names and to those of --allow-host"));
  const std::string_view origin = request.header("origin");
  if (!origin.empty() && origin != "http://" + std::string(host) && origin != "https://" + std::string(host))
    return ServiceProblem(
        403, concat("Origin is '", replace_invalid_utf8(origin), "'; only the service's own page may ask"));
  const std::string_view site = request.header("sec-fetch-site");
  if (!site.empty() && site != "same-origin" && site != "none" && request.path != "/")
    return ServiceProblem(
        403, concat("Sec-Fetch-Site is '", replace_invalid_utf8(site), "'; only the service's own page may ask"));
  return std::nullopt;
}

KDLIB_TOOLS_FUNC std::optional<ServiceProblem> ServiceGuard::check_token(std::string_view given, double now) {
  if (same_secret(given, settings_.token)) return std::nullopt;
  while (!wrong_.empty() && wrong_.front() < now - 60) wrong_.pop_front();
  if (!given.empty()) {
    if (wrong_.size() >= 10) return ServiceProblem(429, "more than ten wrong tokens in a minute; wait a minute");
    wrong_.push_back(now);
  }
  return ServiceProblem(401, "a token is needed: Authorization: Bearer TOKEN, as serve printed it at its start");
}

KDLIB_TOOLS_FUNC std::string_view ServiceGuard::bearer(const ServiceRequest& request) {
  const std::string_view value = request.header("authorization");
  constexpr std::string_view word = "Bearer ";
  return value.substr(0, word.size()) == word ? value.substr(word.size()) : std::string_view();
}

KDLIB_NAMESPACE_END

#endif
