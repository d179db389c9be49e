// SPDX-License-Identifier: Apache-2.0
// Clocks that answer in seconds.
#ifndef KDLIB_CORE_CLOCK_HPP
#define KDLIB_CORE_CLOCK_HPP

#include <time.h>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {
double clock_seconds(clockid_t clock);
}  // namespace detail

/// Returns the seconds since 1970 by the system's clock, which may be set forward or back at any time.
inline double now_seconds() { return detail::clock_seconds(CLOCK_REALTIME); }

/// Returns the seconds since an arbitrary moment by a clock that is never set. Use differences of two readings.
inline double steady_seconds() { return detail::clock_seconds(CLOCK_MONOTONIC); }

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/core/clock_inl.hpp"
#endif

#endif
