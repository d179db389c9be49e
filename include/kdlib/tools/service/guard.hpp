// SPDX-License-Identifier: Apache-2.0
// Decides which requests are allowed, by the name of the service in the request, the origin of the page and the token.
#ifndef KDLIB_TOOLS_SERVICE_GUARD_HPP
#define KDLIB_TOOLS_SERVICE_GUARD_HPP

#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "kdlib/tools/service/message.hpp"
#include "kdlib/tools/service/service_settings.hpp"

KDLIB_NAMESPACE_BEGIN

/// Checks every request before any other part of the service reads it.
class ServiceGuard {
 public:
  explicit ServiceGuard(const ServiceSettings& settings) : settings_(settings) {}

  /// Returns a problem 403 if the header Host is not a name of this service (DNS rebinding), if Origin is another page,
  /// or if the browser says that another site sends the request.
  std::optional<ServiceProblem> check_place(const ServiceRequest& request) const;
  /// Returns a problem 401 if the token is missing or wrong, and 429 after ten wrong tokens within 60 seconds. The
  /// right token always passes. `now` is in seconds of a clock that never goes back.
  std::optional<ServiceProblem> check_token(std::string_view given, double now);
  /// Returns the token of `Authorization: Bearer TOKEN`; empty if there is none.
  static std::string_view bearer(const ServiceRequest& request);

 private:
  const ServiceSettings& settings_;
  std::deque<double> wrong_;
};

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/service/guard_inl.hpp"
#endif

#endif
