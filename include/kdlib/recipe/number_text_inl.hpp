// SPDX-License-Identifier: Apache-2.0
// Bodies of number_text.hpp.
#ifndef KDLIB_RECIPE_NUMBER_TEXT_INL_HPP
#define KDLIB_RECIPE_NUMBER_TEXT_INL_HPP

#include <cstdio>

#include "kdlib/recipe/number_text.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_FUNC std::string duration_text(double seconds) {
  const auto total = static_cast<long long>(seconds < 0 ? 0 : seconds + 0.5);
  char text[40];
  if (total >= 3600) std::snprintf(text, sizeof text, "%lld:%02lld:%02lld", total / 3600, total / 60 % 60, total % 60);
  else std::snprintf(text, sizeof text, "%lld:%02lld", total / 60, total % 60);
  return text;
}

namespace detail {
KDLIB_FUNC std::string number_text(const char* format, double x) {
  char buffer[48];
  std::snprintf(buffer, sizeof buffer, format, x);
  return buffer;
}
}  // namespace detail

KDLIB_NAMESPACE_END

#endif
