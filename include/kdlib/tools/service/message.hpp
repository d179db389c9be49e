// SPDX-License-Identifier: Apache-2.0
// Requests and answers of the service, free of sockets, and problems as RFC 9457 documents.
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

/// One request as the server hands it over. `path` is decoded and has no query.
struct ServiceRequest {
  std::string method, path;
  std::vector<std::pair<std::string, std::string>> query;    // decoded, in order
  std::vector<std::pair<std::string, std::string>> headers;  // names in lower case
  std::string body;

  /// The header of that name in lower case; empty when there is none.
  std::string_view header(std::string_view name) const;
};

class RunEvents;

/// What is sent back. One of body, producer, later, ready and events is used.
struct ServiceAnswer {
  int status = 200;
  std::string type = "application/json";
  std::string body{};
  std::vector<std::pair<std::string, std::string>> headers{};
  std::function<bool(std::string&)> producer{};  // fills the next piece; false: that was the last one
  std::function<ServiceAnswer()> later{};        // slow: called on a thread of its own
  std::function<bool(ServiceAnswer&)> ready{};   // asked ten times a second until it fills the answer and says true
  std::shared_ptr<RunEvents> events{};           // an endless answer of events
};

/// A field of a request that cannot be used.
struct FieldProblem {
  std::string field, message;
};

/// A refused request: thrown by handlers, sent as application/problem+json.
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

/// The document of a problem; `instance` is the request's path.
ServiceAnswer problem_answer(const ServiceProblem& problem, std::string_view instance);
/// The usual words of a status: "Not Found".
const char* status_title(int status);

/// Fills path and query from the target of a request line. False: the target is no absolute path, has a broken escape,
/// a zero byte or text that is not UTF-8.
bool read_target(std::string_view target, ServiceRequest& request);
/// Seconds since 1970 as RFC 3339 in UTC, "2026-11-29T04:45:42Z".
std::string time_text(double seconds);
/// `bytes` random bytes of the system in hexadecimal.
std::string random_hex(int bytes);
/// Compares in a time that depends on the lengths alone.
bool same_secret(std::string_view a, std::string_view b);

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/service/message_inl.hpp"
#endif

#endif
