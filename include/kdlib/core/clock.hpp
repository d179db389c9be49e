// SPDX-License-Identifier: Apache-2.0
// Clocks in seconds.
#ifndef KDLIB_CORE_CLOCK_HPP
#define KDLIB_CORE_CLOCK_HPP

#include <time.h>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {
inline double clock_seconds(clockid_t clock) {
  timespec now{};
  ::clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}
}  // namespace detail

/// Seconds since 1970 by the system's clock; it may be set back or forth.
inline double now_seconds() { return detail::clock_seconds(CLOCK_REALTIME); }

/// Seconds since some moment by a clock that nobody sets: for differences.
inline double steady_seconds() { return detail::clock_seconds(CLOCK_MONOTONIC); }

KDLIB_NAMESPACE_END

#endif
