// SPDX-License-Identifier: Apache-2.0
// Requests and answers of the service, without sockets, and problems as documents of RFC 9457.
#ifndef KDLIB_TOOLS_SERVICE_MESSAGE_HPP
#define KDLIB_TOOLS_SERVICE_MESSAGE_HPP

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kdlib/core/error.hpp"

KDLIB_NAMESPACE_BEGIN

/// One request, as the server passes it on. `path` is decoded and does not contain the query.
struct ServiceRequest {
  std::string method, path;
  std::vector<std::pair<std::string, std::string>> query;    // decoded, in order
  std::vector<std::pair<std::string, std::string>> headers;  // names in lower case
  std::string body;

  /// Returns the value of a header; empty if there is none. `name` is in lower case.
  std::string_view header(std::string_view name) const;
};

class RunEvents;

/// The answer to a request. Exactly one of body, producer, later, ready and events is used.
struct ServiceAnswer {
  int status = 200;
  std::string type = "application/json";
  std::string body{};
  std::vector<std::pair<std::string, std::string>> headers{};
  std::function<bool(std::string&)> producer{};  // fills the next piece; returns false when none is left
  std::function<ServiceAnswer()> later{};        // makes the answer of slow work; called on another thread
  std::function<bool(ServiceAnswer&)> ready{};   // called ten times in a second until it returns true
  std::shared_ptr<RunEvents> events{};           // an answer of events without a fixed end
};

/// A field of a request that cannot be used, and the reason.
struct FieldProblem {
  std::string field, message;
};

/// Thrown by handlers to refuse a request. The problem is sent as application/problem+json; `status` is that of HTTP.
class ServiceProblem : public Error {
 public:
  ServiceProblem(int status, const std::string& detail, std::vector<FieldProblem> fields = {})
      : Error(detail), status_(status), fields_(std::move(fields)) {}
  int status() const { return status_; }
  const std::vector<FieldProblem>& fields() const { return fields_; }

 private:
  int status_;
  std::vector<FieldProblem> fields_;
};

/// Returns the answer for a problem. `instance` is the path of the request.
ServiceAnswer problem_answer(const ServiceProblem& problem, std::string_view instance);
/// Returns the usual words for a status of HTTP, such as "Not Found".
const char* status_title(int status);

/// Fills path and query from the target of a request line. Returns false if the target is not an absolute path, or
/// contains a broken escape, a zero byte or text that is not UTF-8.
bool read_target(std::string_view target, ServiceRequest& request);
/// Returns seconds since 1970 as a time of RFC 3339 in UTC: "2026-11-29T04:45:42Z".
std::string time_text(double seconds);
/// Returns `bytes` random bytes of the operating system in hexadecimal.
std::string random_hex(int bytes);
/// Compares two texts in a time that depends only on their lengths.
bool same_secret(std::string_view a, std::string_view b);

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/service/message_inl.hpp"
#endif

#endif
