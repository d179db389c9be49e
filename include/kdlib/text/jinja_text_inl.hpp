// SPDX-License-Identifier: Apache-2.0
// Bodies of jinja_text.hpp.
#ifndef KDLIB_TEXT_JINJA_TEXT_INL_HPP
#define KDLIB_TEXT_JINJA_TEXT_INL_HPP

#include <algorithm>
#include <iterator>
#include <utility>

#include "kdlib/io/utf8.hpp"
#include "kdlib/text/jinja_tables.hpp"
#include "kdlib/text/jinja_text.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// The last range that begins at or before `c`, or nullptr.
template <class Range, std::size_t N>
const Range* range_at(const Range (&ranges)[N], char32_t c) {
  const Range* end =
      std::upper_bound(std::begin(ranges), std::end(ranges), c, [](char32_t x, const Range& r) { return x < r.first; });
  return end == std::begin(ranges) || c > (end - 1)->last ? nullptr : end - 1;
}

KDLIB_FUNC bool is_printable(char32_t c) {
  if (c >= 0x20 && c < 0x7F) return true;
  return range_at(python_unprintable_ranges, c) == nullptr;
}

KDLIB_FUNC bool is_python_space(char32_t c) {
  if (c < 0x80) return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20);
  return c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 ||
         c == 0x202F || c == 0x205F || c == 0x3000;
}

KDLIB_FUNC std::size_t byte_of(std::string_view text, std::size_t index) {
  std::size_t at = 0;
  for (; at < text.size(); ++at)
    if ((static_cast<unsigned char>(text[at]) & 0xC0) != 0x80 && index-- == 0) break;
  return at;
}

KDLIB_FUNC std::string first_character(std::string_view text) { return printable(text.substr(0, byte_of(text, 1))); }

/// Where the code point before byte `at` begins; at > 0.
KDLIB_FUNC std::size_t before(std::string_view text, std::size_t at) {
  do --at;
  while ((static_cast<unsigned char>(text[at]) & 0xC0) == 0x80);
  return at;
}

KDLIB_FUNC std::string_view strip(std::string_view text, Sides sides, std::optional<std::string_view> set) {
  const auto goes = [&](std::size_t begin, std::size_t end) {
    std::size_t at = begin;
    return set ? set->find(text.substr(begin, end - begin)) != set->npos
               : is_python_space(next_code_point(text.data(), at));
  };
  std::size_t begin = 0, end = text.size();
  while (sides != Sides::right && begin < end) {
    std::size_t next = begin;
    next_code_point(text.data(), next);
    if (!goes(begin, next)) break;
    begin = next;
  }
  while (sides != Sides::left && end > begin) {
    const std::size_t last = before(text, end);
    if (!goes(last, end)) break;
    end = last;
  }
  return text.substr(begin, end - begin);
}

/// The end of the run of code points from `at` on that are (or are not) white space.
KDLIB_FUNC std::size_t run_end(std::string_view text, std::size_t at, bool space) {
  while (at < text.size()) {
    std::size_t next = at;
    if (is_python_space(next_code_point(text.data(), next)) != space) break;
    at = next;
  }
  return at;
}

KDLIB_FUNC std::vector<std::string_view> split(std::string_view text, std::optional<std::string_view> separator,
                                               std::size_t limit) {
  std::vector<std::string_view> out;
  if (separator) {
    std::size_t begin = 0, at;
    while (out.size() < limit && (at = text.find(*separator, begin)) != text.npos) {
      out.push_back(text.substr(begin, at - begin));
      begin = at + separator->size();
    }
    out.push_back(text.substr(begin));
    return out;
  }
  for (std::size_t at = run_end(text, 0, true); at < text.size();) {
    if (out.size() == limit) {
      out.push_back(text.substr(at));
      break;
    }
    const std::size_t end = run_end(text, at, false);
    out.push_back(text.substr(at, end - at));
    at = run_end(text, end, true);
  }
  return out;
}

KDLIB_FUNC std::vector<std::string_view> rsplit(std::string_view text, std::optional<std::string_view> separator,
                                                std::size_t limit) {
  std::vector<std::string_view> all = split(text, separator, text.size() + 1);
  if (all.size() <= limit + 1 || (!separator && all.size() <= limit)) return all;
  const std::size_t joined = all.size() - limit - 1;  // the first parts stay one
  std::string_view first(all[0].data(),
                         static_cast<std::size_t>(all[joined].data() + all[joined].size() - all[0].data()));
  if (!separator)
    first = std::string_view(text.data(), static_cast<std::size_t>(first.data() + first.size() - text.data()));
  all.erase(all.begin(), all.begin() + static_cast<std::ptrdiff_t>(joined));
  all[0] = separator ? first : strip(first, Sides::right);
  return all;
}

KDLIB_FUNC std::vector<std::string_view> split_lines(std::string_view text) {
  std::vector<std::string_view> out;
  std::size_t begin = 0;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = at;
    const char32_t c = next_code_point(text.data(), at);
    if (!((c >= 0x0A && c <= 0x0D) || (c >= 0x1C && c <= 0x1E) || c == 0x85 || c == 0x2028 || c == 0x2029)) continue;
    out.push_back(text.substr(begin, end - begin));
    if (c == '\r' && at < text.size() && text[at] == '\n') ++at;
    begin = at;
  }
  if (begin < text.size()) out.push_back(text.substr(begin));
  return out;
}

KDLIB_FUNC std::string replace_text(std::string_view text, std::string_view from, std::string_view to,
                                    std::size_t limit) {
  std::string out;
  if (from.empty()) {  // `to` before every code point and at the end
    std::size_t at = 0;
    for (; limit > 0; --limit) {
      out += to;
      if (at == text.size()) break;
      const std::size_t begin = at;
      next_code_point(text.data(), at);
      out += text.substr(begin, at - begin);
    }
    return out += text.substr(at);
  }
  for (std::size_t at; limit > 0 && (at = text.find(from)) != text.npos; --limit) {
    out += text.substr(0, at);
    out += to;
    text.remove_prefix(at + from.size());
  }
  return out += text;
}

template <std::size_t N, std::size_t M>
void append_mapped(const PythonCaseRange (&ranges)[N], const PythonCaseWord (&words)[M], char32_t c, std::string& out) {
  for (const PythonCaseWord& word : words)
    if (word.from == c) {
      out += word.to;
      return;
    }
  const PythonCaseRange* r = range_at(ranges, c);
  const bool hit = r != nullptr && (c - r->first) % static_cast<char32_t>(r->step) == 0;
  append_utf8(out, hit ? static_cast<char32_t>(static_cast<std::int32_t>(c) + r->delta) : c);
}

KDLIB_FUNC void append_upper(char32_t c, std::string& out) {
  if (c < 0x80) out += static_cast<char>(c >= 'a' && c <= 'z' ? c - 32 : c);
  else append_mapped(python_upper_ranges, python_upper_words, c, out);
}

KDLIB_FUNC void append_lower(char32_t c, std::string& out) {
  if (c < 0x80) out += static_cast<char>(c >= 'A' && c <= 'Z' ? c + 32 : c);
  else append_mapped(python_lower_ranges, python_lower_words, c, out);
}

KDLIB_FUNC bool is_cased(char32_t c) {
  const UnicodeClass kind = unicode_class(c);
  return kind == UnicodeClass::upper || kind == UnicodeClass::lower;
}

KDLIB_FUNC std::string to_upper(std::string_view text) {
  std::string out;
  for (std::size_t at = 0; at < text.size();) append_upper(next_code_point(text.data(), at), out);
  return out;
}

/// A letter at the front of a word: digraphs have a form of their own, and of several letters the first is upper.
KDLIB_FUNC void append_title(char32_t c, std::string& out) {
  if (c >= 0x1C4 && c <= 0x1CC) return append_utf8(out, 0x1C5 + (c - 0x1C4) / 3 * 3);
  if (c >= 0x1F1 && c <= 0x1F3) return append_utf8(out, 0x1F2);
  std::string upper;
  append_upper(c, upper);
  std::size_t at = 0;
  append_utf8(out, next_code_point(upper.data(), at));
  while (at < upper.size()) append_lower(next_code_point(upper.data(), at), out);
}

enum class CaseStep { lower, lower_apart, upper, title };  // apart: as if nothing stood before the letter

/// The case of each code point as `step(previous code point)` says.
template <class Step>
std::string change_case(std::string_view text, Step&& step) {
  std::string out;
  char32_t previous = 0;
  for (std::size_t at = 0; at < text.size();) {
    const char32_t c = next_code_point(text.data(), at);
    std::size_t next = at;
    const bool ends = at == text.size() || !is_cased(next_code_point(text.data(), next));
    const CaseStep how = step(previous);
    if (how == CaseStep::upper) append_upper(c, out);
    else if (how == CaseStep::title) append_title(c, out);
    else if (c == 0x3A3 && how == CaseStep::lower && is_cased(previous) && ends) out += "\xCF\x82";  // a final sigma
    else append_lower(c, out);
    previous = c;
  }
  return out;
}

KDLIB_FUNC std::string to_lower(std::string_view text) {
  return change_case(text, [](char32_t) { return CaseStep::lower; });
}
KDLIB_FUNC std::string to_title(std::string_view text) {
  return change_case(
      text, [](char32_t previous) { return previous == 0 || !is_cased(previous) ? CaseStep::title : CaseStep::lower; });
}
KDLIB_FUNC std::string capitalize(std::string_view text) {
  return change_case(text, [first = true](char32_t) mutable {
    return std::exchange(first, false) ? CaseStep::title : CaseStep::lower;
  });
}
KDLIB_FUNC std::string title_words(std::string_view text) {
  return change_case(text, [begins = true, second = false](char32_t previous) mutable {
    begins = begins || is_python_space(previous) || previous == '-' || previous == '(' || previous == '{' ||
             previous == '[' || previous == '<';
    if (std::exchange(begins, false)) {
      second = true;
      return CaseStep::upper;
    }
    return std::exchange(second, false) ? CaseStep::lower_apart : CaseStep::lower;
  });
}

KDLIB_FUNC std::string escape_markup(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '&') out += "&amp;";
    else if (c == '<') out += "&lt;";
    else if (c == '>') out += "&gt;";
    else if (c == '"') out += "&#34;";
    else if (c == '\'') out += "&#39;";
    else out += c;
  }
  return out;
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
