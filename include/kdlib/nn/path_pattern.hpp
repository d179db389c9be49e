// SPDX-License-Identifier: Apache-2.0
// Regular expressions over module paths in Python's syntax, as PEFT's adapter_config.json has them. This library
// matches regular patterns itself, without backtracking. Other patterns need PCRE2 (KDLIB_WITH_PCRE2).
#ifndef KDLIB_NN_PATH_PATTERN_HPP
#define KDLIB_NN_PATH_PATTERN_HPP

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kdlib/core/error.hpp"

KDLIB_NAMESPACE_BEGIN

/// A pattern of Python's re module. Literals, ., classes, \d \w \s and their complements, groups, |, * + ? {m,n}
/// (greedy or lazy), ^ and $ are matched in time linear in the text. Flags, \b and the other escapes of Python,
/// look-around, references, possessive and atomic parts need PCRE2; without PCRE2 the constructor refuses them by name.
/// Throws ConfigError for a pattern that Python's re refuses, for a pattern that is too large, and in matches() for a
/// pattern that backtracks beyond a fixed number of steps.
class PathPattern {
 public:
  explicit PathPattern(std::string_view pattern);

  /// True if the whole text matches, as with Python's re.fullmatch.
  bool matches(std::string_view text) const;

  /// Returns Python's re.match(pattern, text).group(1): the first group of a match that begins at the front of the
  /// text, or "" if the group takes no part. Returns nothing if the text does not match. Throws ConfigError without
  /// PCRE2.
  static std::optional<std::string> first_group(std::string_view pattern, std::string_view text);

 private:
  enum class Kind : std::uint8_t { set, split, jump, begin, end, match };
  struct Step {
    Kind kind;
    int a = 0, b = 0;  // relative targets; for a set: its index
  };
  using Code = std::vector<Step>;

  Code alternatives();
  Code sequence();
  Code repeated();
  Code atom();
  Code group();
  Code escape();
  Code bracket();
  Code set_of(const std::array<bool, 256>& set);
  Code repeat(const Code& one, int least, int most);  // most < 0: no limit
  bool read_braces(int& least, int& most);
  [[noreturn]] void refuse(std::string_view what) const;
  [[noreturn]] void refuse_irregular(std::string_view what) const;
  void reach(int state, std::size_t at, std::size_t size, std::vector<char>& seen, std::vector<int>& list) const;

  std::string text_;
  std::size_t at_ = 0;
  int depth_ = 0;
  Code code_;
  std::vector<std::array<bool, 256>> sets_;
  std::shared_ptr<const void> engine_;  // detail::Pcre2Pattern, for a pattern that is not regular
};

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/nn/path_pattern_inl.hpp"
#endif

#endif
