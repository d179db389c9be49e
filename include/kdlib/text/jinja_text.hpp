// SPDX-License-Identifier: Apache-2.0
// What Python's str does with code points: white space, case, splitting. All texts are valid UTF-8.
#ifndef KDLIB_TEXT_JINJA_TEXT_HPP
#define KDLIB_TEXT_JINJA_TEXT_HPP

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kdlib/core/utf8.hpp"
#include "kdlib/text/unicode.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

bool is_printable(char32_t c);
bool is_python_space(char32_t c);

/// Byte where code point `index` begins; the size of the text for an index behind its end.
std::size_t byte_of(std::string_view text, std::size_t index);

/// The first character of a text that is not empty, for messages.
std::string first_character(std::string_view text);

enum class Sides { both, left, right };
/// str.strip: white space, or every code point that `set` holds.
std::string_view strip(std::string_view text, Sides sides = Sides::both, std::optional<std::string_view> set = {});

/// str.split and str.rsplit with at most `limit` cuts; without a separator at runs of white space. The separator is
/// not empty.
std::vector<std::string_view> split(std::string_view text, std::optional<std::string_view> separator,
                                    std::size_t limit);
std::vector<std::string_view> rsplit(std::string_view text, std::optional<std::string_view> separator,
                                     std::size_t limit);
std::vector<std::string_view> split_lines(std::string_view text);

std::string replace_text(std::string_view text, std::string_view from, std::string_view to, std::size_t limit);

std::string to_upper(std::string_view text);
std::string to_lower(std::string_view text);
std::string to_title(std::string_view text);       // str.title: every word, "it's" is It'S
std::string capitalize(std::string_view text);     // first upper, others lower
std::string title_words(std::string_view text);    // the filter `title`: "it's" is It's
std::string escape_markup(std::string_view text);  // & < > " '

}  // namespace detail
KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/text/jinja_text_inl.hpp"
#endif

#endif
