// SPDX-License-Identifier: Apache-2.0
// Expressions of path_pattern.hpp that need backtracking, by PCRE2 (KDLIB_WITH_PCRE2): Python's syntax is translated,
// and what Python's re would refuse is refused, too.
#ifndef KDLIB_NN_PATH_PATTERN_PCRE2_INL_HPP
#define KDLIB_NN_PATH_PATTERN_PCRE2_INL_HPP

#if defined(KDLIB_WITH_PCRE2)

#include <pcre2.h>  // the build defines PCRE2_CODE_UNIT_WIDTH as 8

#include <algorithm>
#include <memory>

#include "kdlib/core/utf8.hpp"
#include "kdlib/nn/path_pattern.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Writes a pattern of Python's re as one of PCRE2 with the same meaning.
class PythonPatternTranslator {
 public:
  explicit PythonPatternTranslator(std::string_view pattern) : in_(pattern) {}

  std::string translate() {
    while (at_ < in_.size()) {
      const char c = in_[at_];
      if (c == '\\') escape();
      else if (in_class_) character_of_class();
      else if (c == '[') open_class();
      else if (c == '(') open_group();
      else if (c == '{') brace();
      else take();
    }
    return std::move(out_);
  }

 private:
  [[noreturn]] void refuse(std::string_view what) const {
    const std::size_t before = utf8_count(std::string_view(in_).substr(0, std::min(at_, in_.size())));
    fail<ConfigError>("[lora] the pattern \"", in_, "\" ", what, " (at character ", before, ")");
  }
  char next(std::size_t ahead) const { return at_ + ahead < in_.size() ? in_[at_ + ahead] : '\0'; }
  static bool is_digit(char c) { return c >= '0' && c <= '9'; }
  static bool is_hex(char c) { return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }
  static bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); }
  void take() { out_ += in_[at_++]; }
  void put(std::string_view text, std::size_t read) {
    out_ += text;
    at_ += read;
  }

  void escape() {
    if (at_ + 1 >= in_.size()) refuse("ends with a backslash");
    const char c = next(1);
    if (c == 'x' || c == 'u' || c == 'U') return code_point(c == 'x' ? 2 : (c == 'u' ? 4 : 8));
    if (c == 'v') return put("\\x0b", 2);  // PCRE2's \v is a class
    if (!in_class_ && c == 'Z') return put("\\z", 2);
    const std::string_view known = in_class_ ? "abdDfnrsStwW" : "AabBdDfnrsStwW";
    if (is_letter(c) && known.find(c) == std::string_view::npos)
      refuse("has an escape that Python's re does not have, or a character by name");
    put(in_.substr(at_, 2), 2);
  }
  void code_point(std::size_t digits) {
    for (std::size_t i = 0; i < digits; ++i)
      if (!is_hex(next(2 + i))) refuse("has an incomplete escape of a character");
    out_ += concat("\\x{", in_.substr(at_ + 2, digits), "}");
    at_ += 2 + digits;
  }
  void open_class() {
    in_class_ = true;
    take();
    if (next(0) == '^') take();
    if (next(0) == ']') put("\\]", 1);
  }
  void character_of_class() {
    if (in_[at_] == '[') return put("\\[", 1);  // PCRE2 has [:names:]
    in_class_ = in_[at_] != ']';
    take();
  }
  /// {,n} is {0,n}; a brace that repeats nothing is text.
  void brace() {
    std::size_t i = at_ + 1;
    while (i < in_.size() && is_digit(in_[i])) ++i;
    const bool least = i > at_ + 1, comma = i < in_.size() && in_[i] == ',';
    if (comma)
      for (++i; i < in_.size() && is_digit(in_[i]);) ++i;
    if (i >= in_.size() || in_[i] != '}' || (!least && !comma)) return put("\\{", 1);
    if (least) return take();
    put("{0", 1);
  }
  void open_group() {
    if (next(1) == '*') refuse("has nothing to repeat");
    if (next(1) != '?') return take();
    const char c = next(2), d = next(3);
    if (c == ':' || c == '=' || c == '!' || c == '>' || c == '#' || c == '(') return put(in_.substr(at_, 3), 3);
    if ((c == 'P' && (d == '<' || d == '=')) || (c == '<' && (d == '=' || d == '!'))) return put(in_.substr(at_, 4), 4);
    if (c == '-' || is_letter(c)) return flags();
    refuse("has an unknown kind of group");
  }
  /// (?i) at the front of the whole pattern, (?i-s:...) anywhere. The flags a and u change nothing for module paths.
  void flags() {
    std::size_t i = at_ + 2;
    std::string kept;
    for (; i < in_.size() && in_[i] != ')' && in_[i] != ':'; ++i) {
      if (std::string_view("aimsux-").find(in_[i]) == std::string_view::npos) refuse("has an unknown flag");
      if (in_[i] != 'a' && in_[i] != 'u') kept += in_[i];
    }
    if (i >= in_.size()) refuse("has an opening parenthesis too many");
    if (in_[i] == ')' && at_ != 0) refuse("has global flags that are not at its start");
    out_ += concat("(?", kept, in_[i] == ':' ? ":" : ")");
    at_ = i + 1;
  }

  std::string_view in_;
  std::string out_;
  std::size_t at_ = 0;
  bool in_class_ = false;
};

/// A compiled pattern. Matching is bounded: a pattern that backtracks more often is refused.
class Pcre2Pattern {
 public:
  static constexpr std::uint32_t step_limit = 1000000, depth_limit = 100000, heap_limit = 65536;  // heap: KiB

  explicit Pcre2Pattern(const std::string& python) : python_(python) {
    const std::string pattern = PythonPatternTranslator(python_).translate();
    const Owner<pcre2_compile_context, pcre2_compile_context_free> context(pcre2_compile_context_create(nullptr));
    pcre2_set_newline(context.get(), PCRE2_NEWLINE_LF);
    int error = 0;
    PCRE2_SIZE at = 0;
    code_.reset(pcre2_compile(reinterpret_cast<PCRE2_SPTR>(pattern.data()), pattern.size(),
                              PCRE2_UTF | PCRE2_UCP | PCRE2_NEVER_BACKSLASH_C, &error, &at, context.get()));
    require<ConfigError>(code_ != nullptr, "[lora] the pattern \"", python_, "\": ", message(error),
                         " (near character ", at, ")");
    limits_.reset(pcre2_match_context_create(nullptr));
    pcre2_set_match_limit(limits_.get(), step_limit);
    pcre2_set_depth_limit(limits_.get(), depth_limit);
    pcre2_set_heap_limit(limits_.get(), heap_limit);
  }

  bool matches(std::string_view text) const { return match(text, PCRE2_ANCHORED | PCRE2_ENDANCHORED).has_value(); }

  /// The text of the first group of a match that begins at the front: re.match(...).group(1).
  std::optional<std::string> first_group(std::string_view text) const { return match(text, PCRE2_ANCHORED); }

 private:
  template <class X, void (*release)(X*)>
  struct Release {
    void operator()(X* x) const { release(x); }
  };
  template <class X, void (*release)(X*)>
  using Owner = std::unique_ptr<X, Release<X, release>>;

  static std::string message(int error) {
    PCRE2_UCHAR text[256] = {};
    pcre2_get_error_message(error, text, sizeof text);
    return reinterpret_cast<const char*>(text);
  }
  std::optional<std::string> match(std::string_view text, std::uint32_t options) const {
    const Owner<pcre2_match_data, pcre2_match_data_free> data(
        pcre2_match_data_create_from_pattern(code_.get(), nullptr));
    const int found = pcre2_match(code_.get(), reinterpret_cast<PCRE2_SPTR>(text.data()), text.size(), 0, options,
                                  data.get(), limits_.get());
    if (found == PCRE2_ERROR_NOMATCH) return std::nullopt;
    require<ConfigError>(found > 0, "[lora] the pattern \"", python_, "\" cannot be compared with \"", text,
                         "\": ", message(found));
    const PCRE2_SIZE* places = pcre2_get_ovector_pointer(data.get());
    if (found < 2 || places[2] == PCRE2_UNSET) return std::string();
    return std::string(text.substr(places[2], places[3] - places[2]));
  }

  std::string python_;
  Owner<pcre2_code, pcre2_code_free> code_;
  Owner<pcre2_match_context, pcre2_match_context_free> limits_;
};

}  // namespace detail
KDLIB_NAMESPACE_END

#endif

#endif
