// SPDX-License-Identifier: Apache-2.0
// Bodies of jinja_types.hpp.
#ifndef KDLIB_TEXT_JINJA_TYPES_INL_HPP
#define KDLIB_TEXT_JINJA_TYPES_INL_HPP

#include <ctime>

#include "kdlib/core/error.hpp"
#include "kdlib/text/jinja_types.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_FUNC JinjaError::JinjaError(Kind kind, std::string words, std::string_view name, std::size_t line,
                                  std::size_t column)
    : InputError(concat("[jinja] ", name, ":", line, ":", column, ": ",
                        kind == Kind::raised ? "the template refuses: " : "", words)),
      kind_(kind),
      words_(std::move(words)),
      line_(line) {}

KDLIB_FUNC JinjaClock JinjaClock::local_now() {
  const std::time_t seconds = std::time(nullptr);
  std::tm parts{};
  localtime_r(&seconds, &parts);
  return {parts.tm_year + 1900, parts.tm_mon + 1, parts.tm_mday, parts.tm_hour, parts.tm_min, parts.tm_sec};
}

KDLIB_NAMESPACE_END

#endif
