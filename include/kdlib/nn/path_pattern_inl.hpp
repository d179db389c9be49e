// SPDX-License-Identifier: Apache-2.0
// Bodies of path_pattern.hpp: a parser that emits code with relative jumps, and a simulation of all states at once
// (Thompson, 1968).
#ifndef KDLIB_NN_PATH_PATTERN_INL_HPP
#define KDLIB_NN_PATH_PATTERN_INL_HPP

#include "kdlib/nn/path_pattern.hpp"
#include "kdlib/nn/path_pattern_pcre2_inl.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Thrown by the parser where a pattern is none of its own, and caught by the constructor.
struct IrregularPattern {};

/// \d, \w, \s and complements over bytes; false for another letter.
KDLIB_FUNC bool class_of(char letter, std::array<bool, 256>& set) {
  const char lower = static_cast<char>(letter | 32);
  if (lower != 'd' && lower != 'w' && lower != 's') return false;
  for (unsigned c = 0; c < 256; ++c) {
    const bool digit = c >= '0' && c <= '9', alpha = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
    const bool space = c == ' ' || (c >= 9 && c <= 13);
    const bool in = lower == 'd' ? digit : (lower == 'w' ? digit || alpha : space);
    set[c] = set[c] || in == (letter == lower);
  }
  return true;
}

}  // namespace detail

KDLIB_FUNC PathPattern::PathPattern(std::string_view pattern) : text_(pattern) {
  constexpr std::size_t longest = 16384;  // the time for the code grows with the square
  require<ConfigError>(pattern.size() <= longest, "[lora] a pattern has ", pattern.size(), " characters; at most ",
                       longest, " are read");
#if defined(KDLIB_WITH_PCRE2)
  try {
    code_ = alternatives();
  } catch (const detail::IrregularPattern&) {
    engine_ = std::make_shared<const detail::Pcre2Pattern>(text_);
    return;
  }
#else
  code_ = alternatives();
#endif
  if (at_ != text_.size()) refuse("has a closing parenthesis too many");
  code_.push_back({Kind::match});
}

KDLIB_FUNC void PathPattern::refuse_irregular([[maybe_unused]] std::string_view what) const {
#if defined(KDLIB_WITH_PCRE2)
  throw detail::IrregularPattern{};
#else
  refuse(concat(what, ", which needs PCRE2: build with KDLIB_PCRE2=ON (Debian and Ubuntu: libpcre2-dev)"));
#endif
}

KDLIB_FUNC std::optional<std::string> PathPattern::first_group(std::string_view pattern,
                                                               [[maybe_unused]] std::string_view text) {
#if defined(KDLIB_WITH_PCRE2)
  return detail::Pcre2Pattern(std::string(pattern)).first_group(text);
#else
  fail<ConfigError>("[lora] the groups of the pattern \"", pattern,
                    "\" need PCRE2: build with KDLIB_PCRE2=ON (Debian and Ubuntu: libpcre2-dev)");
#endif
}

KDLIB_FUNC void PathPattern::refuse(std::string_view what) const {
  fail<ConfigError>("[lora] the pattern \"", text_, "\" ", what, " (at character ", at_, ")");
}

KDLIB_FUNC PathPattern::Code PathPattern::set_of(const std::array<bool, 256>& set) {
  sets_.push_back(set);
  return {{Kind::set, static_cast<int>(sets_.size()) - 1, 0}};
}

KDLIB_FUNC PathPattern::Code PathPattern::alternatives() {
  if (++depth_ > 100) refuse("is nested too deeply");
  Code left = sequence();
  while (at_ < text_.size() && text_[at_] == '|') {
    ++at_;
    const Code right = sequence();
    Code both = {{Kind::split, 1, static_cast<int>(left.size()) + 2}};
    both.insert(both.end(), left.begin(), left.end());
    both.push_back({Kind::jump, static_cast<int>(right.size()) + 1, 0});
    both.insert(both.end(), right.begin(), right.end());
    left = std::move(both);
  }
  --depth_;
  return left;
}

KDLIB_FUNC PathPattern::Code PathPattern::sequence() {
  Code code;
  while (at_ < text_.size() && text_[at_] != '|' && text_[at_] != ')') {
    const Code next = repeated();
    code.insert(code.end(), next.begin(), next.end());
    if (code.size() > 20000) refuse("is too large");
  }
  return code;
}

KDLIB_FUNC bool PathPattern::read_braces(int& least, int& most) {
  std::size_t i = at_ + 1;
  const auto number = [&](int& out) {
    const std::size_t start = i;
    for (out = 0; i < text_.size() && text_[i] >= '0' && text_[i] <= '9' && out < 100000; ++i)
      out = out * 10 + (text_[i] - '0');
    return i > start;
  };
  const bool has_least = number(least);
  bool has_most = false, comma = false;
  if (i < text_.size() && text_[i] == ',') {
    comma = true;
    ++i;
    has_most = number(most);
  }
  if (i >= text_.size() || text_[i] != '}' || (!has_least && !comma)) return false;  // Python takes it as text then
  if (!comma) most = least;
  else if (!has_most) most = -1;
  if (least > 1000 || most > 1000) refuse("repeats more than 1000 times");
  if (most >= 0 && most < least) refuse("has a repeat whose maximum is below its minimum");
  at_ = i + 1;
  return true;
}

KDLIB_FUNC PathPattern::Code PathPattern::repeated() {
  const Code one = atom();
  int least = 1, most = 1;
  if (at_ >= text_.size()) return one;
  const char c = text_[at_];
  if (c == '*') least = 0, most = -1, ++at_;
  else if (c == '+') least = 1, most = -1, ++at_;
  else if (c == '?') least = 0, most = 1, ++at_;
  else if (c != '{' || !read_braces(least, most)) return one;
  const bool lazy = at_ < text_.size() && text_[at_] == '?';  // the same language
  if (lazy) ++at_;
  if (at_ < text_.size() && text_[at_] == '+' && !lazy) refuse_irregular("has a possessive repeat");
  if (at_ < text_.size() && (text_[at_] == '*' || text_[at_] == '+' || (text_[at_] == '?' && lazy)))
    refuse("has a multiple repeat");
  return repeat(one, least, most);
}

KDLIB_FUNC PathPattern::Code PathPattern::repeat(const Code& one, int least, int most) {
  Code code;
  if ((static_cast<std::size_t>(least > most ? least : most) + 1) * (one.size() + 1) > 20000) refuse("is too large");
  for (int i = 0; i < least; ++i) code.insert(code.end(), one.begin(), one.end());
  const int size = static_cast<int>(one.size());
  if (most < 0) {
    code.push_back({Kind::split, 1, size + 2});
    code.insert(code.end(), one.begin(), one.end());
    code.push_back({Kind::jump, -(size + 1), 0});
  }
  for (int i = least; i < most; ++i) {
    code.push_back({Kind::split, 1, (most - i) * (size + 1)});
    code.insert(code.end(), one.begin(), one.end());
  }
  return code;
}

KDLIB_FUNC PathPattern::Code PathPattern::atom() {
  const char c = text_[at_];
  switch (c) {
    case '(':
      return group();
    case '[':
      return bracket();
    case '\\':
      return escape();
    case '^':
      ++at_;
      return {{Kind::begin}};
    case '$':
      ++at_;
      return {{Kind::end}};
    case '.': {
      ++at_;
      std::array<bool, 256> any;
      any.fill(true);
      any['\n'] = false;
      return set_of(any);
    }
    case '*':
    case '+':
    case '?':
      refuse("has nothing to repeat");
    default:
      break;
  }
  ++at_;
  std::array<bool, 256> one{};
  one[static_cast<unsigned char>(c)] = true;
  return set_of(one);
}

KDLIB_FUNC PathPattern::Code PathPattern::group() {
  ++at_;
  if (at_ < text_.size() && text_[at_] == '?') {
    if (text_.compare(at_, 2, "?:") == 0) at_ += 2;
    else if (text_.compare(at_, 3, "?P<") == 0 && text_.find('>', at_) != std::string::npos)
      at_ = text_.find('>', at_) + 1;
    else refuse_irregular("uses look-around, flags, an atomic or a conditional group");
  }
  Code code = alternatives();
  if (at_ >= text_.size()) refuse("has an opening parenthesis too many");
  ++at_;
  return code;
}

KDLIB_FUNC PathPattern::Code PathPattern::escape() {
  if (++at_ >= text_.size()) refuse("ends with a backslash");
  const char c = text_[at_++];
  std::array<bool, 256> set{};
  if (detail::class_of(c, set)) return set_of(set);
  const bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'), digit = c >= '0' && c <= '9';
  if (digit) refuse_irregular("uses a back-reference or octal escape");
  if (letter) refuse_irregular("uses an escape other than \\d \\w \\s and escaped punctuation");
  set[static_cast<unsigned char>(c)] = true;
  return set_of(set);
}

KDLIB_FUNC PathPattern::Code PathPattern::bracket() {
  ++at_;
  std::array<bool, 256> set{};
  const bool negated = at_ < text_.size() && text_[at_] == '^';
  if (negated) ++at_;
  for (bool first = true;; first = false) {
    if (at_ >= text_.size()) refuse("has a [ without ]");
    char low = text_[at_++];
    if (low == ']' && !first) break;
    if (low == '\\') {
      if (at_ >= text_.size()) refuse("ends with a backslash");
      low = text_[at_++];
      if (detail::class_of(low, set)) continue;
      if ((low >= 'a' && low <= 'z') || (low >= 'A' && low <= 'Z') || (low >= '0' && low <= '9'))
        refuse_irregular("uses an escape in [] other than \\d \\w \\s and escaped punctuation");
    }
    char high = low;
    if (at_ + 1 < text_.size() && text_[at_] == '-' && text_[at_ + 1] != ']') {
      high = text_[at_ + 1];
      at_ += 2;
      if (high == '\\' && at_ < text_.size()) high = text_[at_++];
      if (static_cast<unsigned char>(high) < static_cast<unsigned char>(low))
        refuse("has a range whose end lies before its start");
    }
    for (unsigned c = static_cast<unsigned char>(low); c <= static_cast<unsigned char>(high); ++c) set[c] = true;
  }
  if (negated)
    for (bool& in : set) in = !in;
  return set_of(set);
}

KDLIB_FUNC void PathPattern::reach(int state, std::size_t at, std::size_t size, std::vector<char>& seen,
                                   std::vector<int>& list) const {
  std::vector<int> open = {state};
  while (!open.empty()) {
    const int s = open.back();
    open.pop_back();
    if (seen[static_cast<std::size_t>(s)] != 0) continue;
    seen[static_cast<std::size_t>(s)] = 1;
    const Step& step = code_[static_cast<std::size_t>(s)];
    switch (step.kind) {
      case Kind::split:
        open.push_back(s + step.a), open.push_back(s + step.b);
        break;
      case Kind::jump:
        open.push_back(s + step.a);
        break;
      case Kind::begin:
        if (at == 0) open.push_back(s + 1);
        break;
      case Kind::end:
        if (at == size) open.push_back(s + 1);
        break;
      default:
        list.push_back(s);
    }
  }
}

KDLIB_FUNC bool PathPattern::matches(std::string_view text) const {
#if defined(KDLIB_WITH_PCRE2)
  if (engine_ != nullptr) return static_cast<const detail::Pcre2Pattern*>(engine_.get())->matches(text);
#endif
  std::vector<int> now, next;
  std::vector<char> seen(code_.size(), 0);
  reach(0, 0, text.size(), seen, now);
  for (std::size_t i = 0; i < text.size(); ++i) {
    next.clear();
    seen.assign(code_.size(), 0);
    for (const int s : now) {
      const Step& step = code_[static_cast<std::size_t>(s)];
      if (step.kind == Kind::set && sets_[static_cast<std::size_t>(step.a)][static_cast<unsigned char>(text[i])])
        reach(s + 1, i + 1, text.size(), seen, next);
    }
    std::swap(now, next);
  }
  for (const int s : now)
    if (code_[static_cast<std::size_t>(s)].kind == Kind::match) return true;
  return false;
}

KDLIB_NAMESPACE_END

#endif
