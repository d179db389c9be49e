// SPDX-License-Identifier: Apache-2.0
// The types of a rendering of a Jinja template that callers see: limits, clock, variables, output and errors.
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

/// Thrown if a template cannot be read or rendered. what() is "[jinja] NAME:LINE:COLUMN: words".
class JinjaError : public InputError {
 public:
  enum class Kind : std::uint8_t {
    syntax,     // the template is not valid Jinja, or uses a part of Jinja that the interpreter does not know
    raised,     // the template called raise_exception; words() is the message of the template
    undefined,  // the template needs a value that is not defined
    type,       // an operation does not exist for these values
    unknown,    // a filter, test, function or method does not exist
    limit       // too many steps, too much memory, or too deep nesting
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

/// The limits of one rendering. Rendering four turns takes some hundred steps and a few kilobytes.
struct JinjaLimits {
  std::uint64_t steps = 20'000'000;  // nodes that are evaluated, plus one step for each 16 bytes that are searched
  std::size_t bytes = std::size_t{128} << 20;  // sum of all texts, lists and output that the rendering ever makes
  unsigned depth = 600;                        // nesting of expressions, statements and macro calls
};

/// Date and time for the template function strftime_now.
struct JinjaClock {
  int year = 1970, month = 1, day = 1, hour = 0, minute = 0, second = 0;  // month and day count from 1
  static JinjaClock local_now();
};

/// A variable that a template may read: name and value.
struct JinjaVariable {
  std::string_view name;
  Json value;
};

/// The output of a template.
struct JinjaOutput {
  std::string text;
  /// The parts of `text` that {% generation %} blocks printed, [begin, end) in bytes.
  std::vector<std::pair<std::size_t, std::size_t>> generation;
};

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/text/jinja_types_inl.hpp"
#endif

#endif
