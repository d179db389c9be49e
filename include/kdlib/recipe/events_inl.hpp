// SPDX-License-Identifier: Apache-2.0
// Bodies of events.hpp.
#ifndef KDLIB_RECIPE_EVENTS_INL_HPP
#define KDLIB_RECIPE_EVENTS_INL_HPP

#include "kdlib/recipe/events.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_FUNC const char* session_phase_name(SessionPhase phase) {
  constexpr const char* names[] = {"waiting",  "checking",  "loading",  "rounding", "measuring",
                                   "training", "finishing", "finished", "stopped",  "failed"};
  return names[static_cast<std::size_t>(phase)];
}

KDLIB_NAMESPACE_END

#endif
