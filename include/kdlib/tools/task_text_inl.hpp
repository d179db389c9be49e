// SPDX-License-Identifier: Apache-2.0
// Bodies of task_text.hpp.
#ifndef KDLIB_TOOLS_TASK_TEXT_INL_HPP
#define KDLIB_TOOLS_TASK_TEXT_INL_HPP

#include "kdlib/core/error.hpp"
#include "kdlib/core/utf8.hpp"
#include "kdlib/text/unicode.hpp"
#include "kdlib/tools/letter_case.hpp"
#include "kdlib/tools/task_text.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

KDLIB_TOOLS_FUNC bool python_space(char32_t c) {
  return (c >= 0x1C && c <= 0x1F) || unicode_class(c) == UnicodeClass::space;
}

/// Code point that ends at `end`; moves `end` in front of it.
KDLIB_TOOLS_FUNC char32_t previous_code_point(std::string_view text, std::size_t& end) {
  std::size_t begin = end - 1;
  while (begin > 0 && (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80) --begin;
  end = begin;
  std::size_t at = begin;
  return next_code_point(text.data(), at);
}

KDLIB_TOOLS_FUNC std::size_t leading_space(std::string_view text) {
  std::size_t at = 0;
  while (at < text.size()) {
    std::size_t next = at;
    if (!python_space(next_code_point(text.data(), next))) break;
    at = next;
  }
  return at;
}

/// re.sub(open \s* ([^close]*?) \s* close, open \1 close).
KDLIB_TOOLS_FUNC std::string strip_inside(std::string_view text, char open, char close) {
  std::string out;
  std::size_t at = 0;
  while (at < text.size()) {
    const std::size_t begin = text.find(open, at);
    const std::size_t end = begin == std::string_view::npos ? begin : text.find(close, begin + 1);
    if (end == std::string_view::npos) break;
    out.append(text.substr(at, begin + 1 - at)).append(strip(text.substr(begin + 1, end - begin - 1)));
    out += close;
    at = end + 1;
  }
  return out.append(text.substr(at));
}

/// re.sub(r"/' [0-9]/", r"/'[0-9]/", text): the harness's rule as it stands.
KDLIB_TOOLS_FUNC std::string wikitext_contraction(std::string_view text) {
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    if (text.size() - at >= 5 && text.substr(at, 3) == "/' " && text[at + 3] >= '0' && text[at + 3] <= '9' &&
        text[at + 4] == '/') {
      out += "/'[0-9]/";
      at += 5;
    } else {
      out += text[at++];
    }
  }
  return out;
}

}  // namespace detail

KDLIB_TOOLS_FUNC std::size_t trailing_space(std::string_view text) {
  std::size_t end = text.size();
  while (end > 0) {
    std::size_t begin = end;
    if (!detail::python_space(detail::previous_code_point(text, begin))) break;
    end = begin;
  }
  return text.size() - end;
}

KDLIB_TOOLS_FUNC std::string_view strip(std::string_view text) {
  text.remove_prefix(detail::leading_space(text));
  text.remove_suffix(trailing_space(text));
  return text;
}

KDLIB_TOOLS_FUNC std::int64_t count_characters(std::string_view text) {
  return static_cast<std::int64_t>(detail::utf8_count(text));
}

KDLIB_TOOLS_FUNC std::int64_t count_words(std::string_view text) {
  std::int64_t count = 1;
  bool inside = false;  // of white space
  for (std::size_t at = 0; at < text.size();) {
    const bool space = detail::python_space(detail::next_code_point(text.data(), at));
    count += space && !inside;
    inside = space;
  }
  return count;
}

KDLIB_TOOLS_FUNC std::string replace_all(std::string_view text, std::string_view from, std::string_view to) {
  std::string out;
  for (std::size_t at = 0;;) {
    const std::size_t found = text.find(from, at);
    out.append(text.substr(at, found == std::string_view::npos ? found : found - at));
    if (found == std::string_view::npos) return out;
    out.append(to);
    at = found + from.size();
  }
}

KDLIB_TOOLS_FUNC std::string capitalize(std::string_view text) {
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    const bool first = at == 0;
    const char32_t c = detail::next_code_point(text.data(), at);
    bool odd = !first && (c == 0x130 || c == 0x3A3);  // I with a dot: two characters; capital sigma: by what follows
    for (const char32_t longer : detail::longer_title_case) odd = odd || (first && c == longer);
    require<InputError>(!odd, "[capitalize] the case of U+", static_cast<std::uint32_t>(c), " (decimal) in \"", text,
                        "\" is not one character: write the text in its final case");
    append_utf8(out,
                first ? detail::case_of(detail::title_case_ranges, c) : detail::case_of(detail::lower_case_ranges, c));
  }
  return out;
}

KDLIB_TOOLS_FUNC std::string hellaswag_text(std::string_view text) {
  const std::string titles = replace_all(strip(text), " [title]", ". ");
  std::string out;  // re.sub(r"\[.*?\]", "", text): a bracket closes on its own line
  for (std::size_t at = 0; at < titles.size();) {
    const std::size_t close = titles[at] == '[' ? titles.find_first_of("]\n", at + 1) : std::string::npos;
    if (close != std::string::npos && titles[close] == ']') at = close + 1;
    else out += titles[at++];
  }
  return replace_all(out, "  ", " ");
}

KDLIB_TOOLS_FUNC std::string wikitext_text(std::string_view page) {
  std::string text = detail::wikitext_contraction(replace_all(page, "s '", "s'"));
  const auto replace = [&text](std::string_view from, std::string_view to) { text = replace_all(text, from, to); };
  replace(" @-@ ", "-");
  replace(" @,@ ", ",");
  replace(" @.@ ", ".");
  replace(" : ", ": ");
  replace(" ; ", "; ");
  replace(" . ", ". ");
  replace(" ! ", "! ");
  replace(" ? ", "? ");
  replace(" , ", ", ");
  text = detail::strip_inside(text, '(', ')');
  text = detail::strip_inside(text, '[', ']');
  text = detail::strip_inside(text, '{', '}');
  text = detail::strip_inside(text, '"', '"');
  text = detail::strip_inside(text, '\'', '\'');
  replace("= = = =", "====");
  replace("= = =", "===");
  replace("= =", "==");
  replace(" \xC2\xB0 ", "\xC2\xB0");
  replace(" \n", "\n");
  replace("\n ", "\n");
  replace(" N ", " 1 ");
  replace(" 's", "'s");
  return text;
}

KDLIB_NAMESPACE_END

#endif
