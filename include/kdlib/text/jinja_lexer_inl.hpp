// SPDX-License-Identifier: Apache-2.0
// Jinja's tokens, with its rules for white space.
#ifndef KDLIB_TEXT_JINJA_LEXER_INL_HPP
#define KDLIB_TEXT_JINJA_LEXER_INL_HPP

#include <charconv>
#include <limits>

#include "kdlib/io/utf8.hpp"
#include "kdlib/text/jinja_program.hpp"
#include "kdlib/text/jinja_text.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// \r\n and \r become \n, and one line end at the end of the source is dropped.
KDLIB_FUNC std::string jinja_source(std::string_view text) {
  std::string out;
  out.reserve(text.size());
  for (std::size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '\r' && i + 1 < text.size() && text[i + 1] == '\n') continue;
    out += text[i] == '\r' ? '\n' : text[i];
  }
  if (!out.empty() && out.back() == '\n') out.pop_back();
  return out;
}

class JinjaLexer {
 public:
  explicit JinjaLexer(JinjaProgram& program) : program_(program), source_(program.source) {}

  std::vector<JinjaToken> tokens() {
    while (at_ < source_.size()) text();
    add(Kind::end, {}, source_.size());
    return std::move(out_);
  }

 private:
  using Kind = JinjaToken::Kind;

  void add(Kind kind, std::string_view text, std::size_t place) {
    out_.push_back({kind, text, static_cast<std::uint32_t>(place), {}});
  }
  [[noreturn]] void fail(std::string words, std::size_t place) const {
    program_.fail(JinjaError::Kind::syntax, std::move(words), place);
  }
  bool follows(std::string_view words) const { return source_.compare(at_, words.size(), words) == 0; }
  char sign(std::size_t at) const {
    return at < source_.size() && (source_[at] == '-' || source_[at] == '+') ? source_[at] : ' ';
  }
  void skip_space() {
    while (at_ < source_.size()) {
      std::size_t next = at_;
      if (!is_python_space(next_code_point(source_.data(), next))) break;
      at_ = next;
    }
  }

  std::size_t next_tag() const {
    for (std::size_t at = source_.find('{', at_); at != source_.npos; at = source_.find('{', at + 1))
      if (const char c = at + 1 < source_.size() ? source_[at + 1] : ' '; c == '{' || c == '%' || c == '#') return at;
    return source_.npos;
  }

  /// Plain text up to a tag, then the tag.
  void text() {
    const std::size_t tag = next_tag();
    std::string_view words = source_.substr(at_, tag == source_.npos ? source_.npos : tag - at_);
    const std::size_t begin = at_;
    if (tag == source_.npos) {
      at_ = source_.size();
      return add(Kind::text, words, begin);
    }
    const char kind = source_[tag + 1], mark = sign(tag + 2);
    if (mark == '-') words = strip(words, Sides::right);
    else if (mark != '+' && kind != '{') words = without_indent(words);
    if (!words.empty()) add(Kind::text, words, begin);
    at_ = tag + 2 + (mark == ' ' ? 0 : 1);
    if (kind == '#') comment(tag);
    else if (kind == '%' && !raw(tag)) tag_body(Kind::block_begin, tag, "%}");
    else if (kind == '{') tag_body(Kind::print_begin, tag, "}}");
  }

  /// lstrip_blocks: blanks between the line's start and the tag go.
  std::string_view without_indent(std::string_view words) const {
    const std::size_t line = words.rfind('\n') + 1;  // npos + 1 is 0
    if ((line > 0 || line_starts_) && strip(words.substr(line)).empty()) return words.substr(0, line);
    return words;
  }

  /// At an end mark (perhaps with - or +): moves behind it and what it swallows.
  bool close(std::string_view mark, bool trims) {
    const char before = sign(at_);
    if (source_.compare(at_ + (before == ' ' ? 0 : 1), mark.size(), mark) != 0) return false;
    if (before == '+' && !trims) return false;
    at_ += mark.size() + (before == ' ' ? 0 : 1);
    if (before == '-') skip_space();
    else if (before == ' ' && trims && at_ < source_.size() && source_[at_] == '\n') ++at_;
    line_starts_ = source_[at_ - 1] == '\n';
    return true;
  }

  void comment(std::size_t begin) {
    for (; at_ < source_.size(); ++at_)
      if ((source_[at_] == '#' || source_[at_] == '-' || source_[at_] == '+') && close("#}", true)) return;
    fail("a comment {# has no end #}", begin);
  }

  bool word(std::string_view name) {
    skip_space();
    if (!follows(name)) return false;
    at_ += name.size();
    skip_space();
    return true;
  }

  /// {% raw %} text {% endraw %}
  bool raw(std::size_t begin) {
    const std::size_t back = at_;
    if (!word("raw") || !(follows("%}") || follows("-%}"))) {
      at_ = back;
      return false;
    }
    const bool stripped = follows("-%}");
    at_ += stripped ? 3 : 2;
    if (stripped) skip_space();
    line_starts_ = source_[at_ - 1] == '\n';
    const std::size_t from = at_;
    if (from == source_.size()) return true;  // Jinja misses no end where nothing follows
    for (std::size_t tag = at_; (tag = source_.find("{%", tag)) != source_.npos; tag += 2) {
      const char mark = sign(tag + 2);
      at_ = tag + 2 + (mark == ' ' ? 0 : 1);
      std::string_view words = source_.substr(from, tag - from);
      if (!word("endraw")) continue;
      if (mark == '-') words = strip(words, Sides::right);
      else if (mark != '+') words = without_indent(words);
      if (!close("%}", true)) continue;
      add(Kind::text, words, from);
      return true;
    }
    fail("{% raw %} has no {% endraw %}", begin);
  }

  void tag_body(Kind kind, std::size_t begin, std::string_view end) {
    add(kind, source_.substr(begin, 2), begin);
    brackets_.clear();
    for (;;) {
      skip_space();
      if (at_ >= source_.size()) fail(concat("a tag has no end ", end), begin);
      const std::size_t place = at_;
      if (brackets_.empty() && close(end, kind == Kind::block_begin))
        return add(kind == Kind::block_begin ? Kind::block_end : Kind::print_end, end, place);
      token();
    }
  }

  static bool is_digit(char c) { return c >= '0' && c <= '9'; }
  static bool is_word(char c) {
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_' ||
           static_cast<signed char>(c) < 0;
  }

  void token() {
    const char c = source_[at_];
    if (is_digit(c)) return number();
    if (c == '\'' || c == '"') return string();
    const std::size_t begin = at_;
    if (is_word(c)) {
      while (at_ < source_.size() && is_word(source_[at_])) ++at_;
      return add(Kind::name, source_.substr(begin, at_ - begin), begin);
    }
    for (const std::string_view two : {"//", "**", "==", "!=", ">=", "<="})
      if (follows(two)) {
        at_ += 2;
        return add(Kind::sign, two, begin);
      }
    if (std::string_view("+-/*%~[](){}><=.:|,;").find(c) == std::string_view::npos)
      fail(concat("unexpected character ", printable(source_.substr(at_, 1))), at_);
    if (c == '(' || c == '[' || c == '{') brackets_ += c == '(' ? ')' : c == '[' ? ']' : '}';
    if (c == ')' || c == ']' || c == '}') {
      if (brackets_.empty() || brackets_.back() != c) fail(concat("unexpected '", c, "'"), at_);
      brackets_.pop_back();
    }
    ++at_;
    add(Kind::sign, source_.substr(begin, 1), begin);
  }

  void number() {
    const std::size_t begin = at_;
    std::string digits;
    bool real = false;
    const auto take = [&] {
      while (at_ < source_.size() && (is_digit(source_[at_]) || source_[at_] == '_')) {
        if (source_[at_] != '_') digits += source_[at_];
        ++at_;
      }
    };
    const auto digit_at = [&](std::size_t at) { return at < source_.size() && is_digit(source_[at]); };
    take();
    const bool after_dot = !out_.empty() && out_.back().text == "." && out_.back().kind == Kind::sign;
    if (!after_dot && follows(".") && digit_at(at_ + 1)) {
      digits += '.';
      ++at_;
      take();
      real = true;
    }
    const bool exponent = follows("e") || follows("E");
    const std::size_t signed_at =
        at_ + 1 < source_.size() && (source_[at_ + 1] == '-' || source_[at_ + 1] == '+') ? 2 : 1;
    if (!after_dot && exponent && digit_at(at_ + signed_at)) {
      digits += source_.substr(at_, signed_at);
      at_ += signed_at;
      take();
      real = true;
    }
    add(Kind::number, source_.substr(begin, at_ - begin), begin);
    std::int64_t integer = 0;
    double value = 0;
    if (const std::size_t plus = digits.find('+'); plus != digits.npos) digits.erase(plus, 1);  // as from_chars wants
    const auto failed = real ? std::from_chars(digits.data(), digits.data() + digits.size(), value).ec
                             : std::from_chars(digits.data(), digits.data() + digits.size(), integer).ec;
    if (failed != std::errc()) fail("a number is out of range", begin);
    out_.back().value = real ? JinjaValue::of(value) : JinjaValue::of(integer);
  }

  void string() {
    const std::size_t begin = at_;
    const char quote = source_[at_++];
    while (at_ < source_.size() && source_[at_] != quote) at_ += source_[at_] == '\\' ? 2 : 1;
    if (at_ >= source_.size()) fail("a string has no end", begin);
    const std::string_view inner = source_.substr(begin + 1, at_ - begin - 1);
    ++at_;
    const bool plain = inner.find('\\') == inner.npos;
    add(Kind::string, plain ? inner : program_.store(unescaped(inner, begin)), begin);
  }

  /// Python's escapes; unknown ones keep the backslash.
  std::string unescaped(std::string_view text, std::size_t place) const {
    constexpr std::string_view names = "ntr\\'\"abfv", values = "\n\t\r\\'\"\a\b\f\v";
    std::string out;
    for (std::size_t i = 0; i < text.size();) {
      if (text[i] != '\\') {
        out += text[i++];
        continue;
      }
      const char c = text[i + 1];  // the string's end is no backslash
      i += 2;
      const std::size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
      if (const std::size_t known = names.find(c); known != names.npos) {
        out += values[known];
      } else if (c == '\n') {  // a line that goes on
      } else if (digits > 0) {
        out += code_point(text.substr(i - 1), 1 + digits, 16, place);
        i += digits;
      } else if (c >= '0' && c <= '7') {
        std::size_t n = 1;
        while (n < 3 && i - 1 + n < text.size() && text[i - 1 + n] >= '0' && text[i - 1 + n] <= '7') ++n;
        out += code_point(text.substr(i - 1), n, 8, place);
        i += n - 1;
      } else {
        out += '\\';
        out += c;
      }
    }
    return out;
  }

  /// `rest` begins behind the backslash: a letter and digits of base 16, or digits of base 8, `taken` bytes in all.
  std::string code_point(std::string_view rest, std::size_t taken, int base, std::size_t place) const {
    const std::string_view escape = rest.substr(0, taken), digits = escape.substr(base == 16 ? 1 : 0);
    std::uint32_t c = 0;
    const auto [end, ec] = std::from_chars(digits.data(), digits.data() + digits.size(), c, base);
    if (ec != std::errc() || end != digits.data() + digits.size() || escape.size() != taken || c > 0x10FFFF ||
        (c >= 0xD800 && c < 0xE000))
      fail(concat("the escape \\", printable(escape), " in a string names no character"), place);
    std::string out;
    append_utf8(out, c);
    return out;
  }

  JinjaProgram& program_;
  std::string_view source_;
  std::size_t at_ = 0;
  bool line_starts_ = true;
  std::string brackets_;  // the closing brackets that are still to come
  std::vector<JinjaToken> out_;
};

KDLIB_FUNC std::vector<JinjaToken> jinja_tokens(JinjaProgram& program) { return JinjaLexer(program).tokens(); }

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
