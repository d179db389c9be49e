// SPDX-License-Identifier: Apache-2.0
// What goes into a rendering of a Jinja template and what comes out: limits, clock, variables, errors.
#ifndef KDLIB_TEXT_JINJA_TYPES_HPP
#define KDLIB_TEXT_JINJA_TYPES_HPP

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kdlib/io/json.hpp"

KDLIB_NAMESPACE_BEGIN

/// A template that cannot be read or rendered. what() is "[jinja] NAME:LINE:COLUMN: words".
class JinjaError : public InputError {
 public:
  enum class Kind : std::uint8_t {
    syntax,     // the template is not Jinja, or uses what the interpreter does not know
    raised,     // the template called raise_exception: words() is its message
    undefined,  // something is missing that the template needs
    type,       // an operation that these values do not have
    unknown,    // a filter, test, function or method that does not exist
    limit       // too many steps, too much memory or too deep
  };
  JinjaError(Kind kind, std::string words, std::string_view name, std::size_t line, std::size_t column);

  Kind kind() const { return kind_; }
  const std::string& words() const { return words_; }
  std::size_t line() const { return line_; }

 private:
  Kind kind_;
  std::string words_;
  std::size_t line_;
};

/// Bounds of one rendering. A template of four turns takes some hundred steps and a few kilobytes.
struct JinjaLimits {
  std::uint64_t steps = 20'000'000;            // nodes that are evaluated, and bytes / 16 that are searched
  std::size_t bytes = std::size_t{128} << 20;  // texts, lists and output, all that was ever made together
  unsigned depth = 600;                        // expressions, statements and macro calls in each other
};

/// Date and time for strftime_now.
struct JinjaClock {
  int year = 1970, month = 1, day = 1, hour = 0, minute = 0, second = 0;  // month and day from 1
  static JinjaClock local_now();
};

/// A name that a template may read, and its value.
struct JinjaVariable {
  std::string_view name;
  Json value;
};

/// What a template printed.
struct JinjaOutput {
  std::string text;
  /// What {% generation %} blocks printed, [begin, end) in bytes of `text`.
  std::vector<std::pair<std::size_t, std::size_t>> generation;
};

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/text/jinja_types_inl.hpp"
#endif

#endif
