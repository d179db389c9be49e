// SPDX-License-Identifier: Apache-2.0
// Clocks in seconds.
#ifndef KDLIB_CORE_CLOCK_HPP
#define KDLIB_CORE_CLOCK_HPP

#include <time.h>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {
double clock_seconds(clockid_t clock);
}  // namespace detail

/// Seconds since 1970 by the system's clock; it may be set back or forth.
inline double now_seconds() { return detail::clock_seconds(CLOCK_REALTIME); }

/// Seconds since some moment by a clock that nobody sets: for differences.
inline double steady_seconds() { return detail::clock_seconds(CLOCK_MONOTONIC); }

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/core/clock_inl.hpp"
#endif

#endif
