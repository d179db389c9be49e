// SPDX-License-Identifier: Apache-2.0
// Reads a number of a command line.
#ifndef KDLIB_TOOLS_READ_NUMBER_HPP
#define KDLIB_TOOLS_READ_NUMBER_HPP

#include <charconv>
#include <cmath>
#include <string>
#include <system_error>
#include <type_traits>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {
/// Reads the whole text as a number. Returns false if the text is not a number, or not a finite one.
template <class N>
bool read_number(const std::string& text, N& number) {
  const char* begin = text.data();
  const char* end = begin + text.size();
  if (begin != end && *begin == '+') ++begin;
  const auto result = std::from_chars(begin, end, number);
  if constexpr (std::is_floating_point_v<N>)
    if (!std::isfinite(number)) return false;
  return result.ec == std::errc() && result.ptr == end && begin != end;
}
}  // namespace detail

KDLIB_NAMESPACE_END

#endif
