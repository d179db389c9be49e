// SPDX-License-Identifier: Apache-2.0
// Who may ask: the names of this service, the origin of a page, the token.
#ifndef KDLIB_TOOLS_SERVICE_GUARD_HPP
#define KDLIB_TOOLS_SERVICE_GUARD_HPP

#include <deque>
#include <optional>
#include <string>
#include <vector>

#include "kdlib/tools/service/message.hpp"
#include "kdlib/tools/service/service_settings.hpp"

KDLIB_NAMESPACE_BEGIN

/// Looks at every request before anything else does.
class ServiceGuard {
 public:
  explicit ServiceGuard(const ServiceSettings& settings) : settings_(settings) {}

  /// 403 where Host is none of ours (DNS rebinding), Origin is another page, or the browser says that another site
  /// asks.
  std::optional<ServiceProblem> check_place(const ServiceRequest& request) const;
  /// 401 without the token, 429 after ten wrong ones in 60 seconds. `now` in seconds of a steady clock. A right token
  /// always passes.
  std::optional<ServiceProblem> check_token(std::string_view given, double now);
  /// The token of `Authorization: Bearer TOKEN`; empty where there is none.
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
