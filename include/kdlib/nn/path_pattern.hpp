// SPDX-License-Identifier: Apache-2.0
// Regular expressions over module paths, as PEFT's adapter_config.json has them: Python's syntax. What is regular is
// matched without backtracking by own code; the rest is PCRE2's, where the library is built with it (KDLIB_WITH_PCRE2).
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

/// Literals, ., classes, \d \w \s and their complements, groups, |, * + ? {m,n} greedy or lazy, ^ $ are matched in
/// time linear in the text. Flags, \b and the other escapes of Python, look-around, references, possessive and atomic
/// parts need PCRE2: without it they are refused by name. ConfigError: what Python's re refuses, patterns that are too
/// large, and, when matching, patterns that backtrack beyond a fixed number of steps.
class PathPattern {
 public:
  explicit PathPattern(std::string_view pattern);

  /// Python's re.fullmatch.
  bool matches(std::string_view text) const;

  /// Python's re.match(pattern, text).group(1): the first group of a match that begins at the front, "" where the group
  /// took no part; nothing where the text does not match. ConfigError without PCRE2.
  static std::optional<std::string> first_group(std::string_view pattern, std::string_view text);

 private:
  enum class Kind : std::uint8_t { set, split, jump, begin, end, match };
  struct Step {
    Kind kind;
    int a = 0, b = 0;  // relative targets; of a set: its index
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
