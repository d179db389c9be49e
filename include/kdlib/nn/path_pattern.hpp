// SPDX-License-Identifier: Apache-2.0
// Regular expressions over module paths, as PEFT's adapter_config.json has them: the part of Python's syntax that is
// regular, matched without backtracking. <regex> would cost every includer most of a second.
#ifndef KDLIB_NN_PATH_PATTERN_HPP
#define KDLIB_NN_PATH_PATTERN_HPP

#include <bitset>
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kdlib/core/error.hpp"

KDLIB_NAMESPACE_BEGIN

/// Literals, ., classes, \d \w \s and their complements, groups, |, * + ? {m,n} greedy or lazy, ^ $. What needs
/// backtracking (references, look-around), flags and \b are refused by name with ConfigError.
class PathPattern {
 public:
  explicit PathPattern(std::string_view pattern);

  /// Python's re.fullmatch.
  bool matches(std::string_view text) const;

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
  Code set_of(const std::bitset<256>& set);
  Code repeat(const Code& one, int least, int most);  // most < 0: no limit
  bool read_braces(int& least, int& most);
  [[noreturn]] void refuse(std::string_view what) const;
  void reach(int state, std::size_t at, std::size_t size, std::vector<char>& seen, std::vector<int>& list) const;

  std::string text_;
  std::size_t at_ = 0;
  int depth_ = 0;
  Code code_;
  std::vector<std::bitset<256>> sets_;
};

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/nn/path_pattern_inl.hpp"
#endif

#endif
