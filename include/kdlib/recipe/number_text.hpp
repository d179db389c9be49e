// SPDX-License-Identifier: Apache-2.0
// Numbers and durations as plans, tables and reports show them.
#ifndef KDLIB_RECIPE_NUMBER_TEXT_HPP
#define KDLIB_RECIPE_NUMBER_TEXT_HPP

#include <string>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN

/// Returns "1:05" or "2:03:10" for a number of seconds >= 0.
std::string duration_text(double seconds);

namespace detail {
/// Returns x as printf writes it with `format`.
std::string number_text(const char* format, double x);
}  // namespace detail

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/recipe/number_text_inl.hpp"
#endif

#endif
