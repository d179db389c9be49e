// SPDX-License-Identifier: Apache-2.0
// Bodies of core/clock.hpp.
#ifndef KDLIB_CORE_CLOCK_INL_HPP
#define KDLIB_CORE_CLOCK_INL_HPP

#include "kdlib/core/clock.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {
KDLIB_FUNC double clock_seconds(clockid_t clock) {
  timespec now{};
  ::clock_gettime(clock, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}
}  // namespace detail

KDLIB_NAMESPACE_END

#endif
