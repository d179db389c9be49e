// SPDX-License-Identifier: Apache-2.0
// Functions of Python's str on code points: white space, case, splitting. All texts must be valid UTF-8.
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

/// Returns the byte at which code point number `index` begins, or the size of the text if there are not so many code
/// points.
std::size_t byte_of(std::string_view text, std::size_t index);

/// Returns the first character of a text for messages. The text must not be empty.
std::string first_character(std::string_view text);

enum class Sides { both, left, right };
/// Python's str.strip: removes white space, or all code points that are in `set`.
std::string_view strip(std::string_view text, Sides sides = Sides::both, std::optional<std::string_view> set = {});

/// Python's str.split and str.rsplit with at most `limit` cuts. Without a separator the text is cut at runs of white
/// space. A separator must not be empty.
std::vector<std::string_view> split(std::string_view text, std::optional<std::string_view> separator,
                                    std::size_t limit);
std::vector<std::string_view> rsplit(std::string_view text, std::optional<std::string_view> separator,
                                     std::size_t limit);
std::vector<std::string_view> split_lines(std::string_view text);

std::string replace_text(std::string_view text, std::string_view from, std::string_view to, std::size_t limit);

std::string to_upper(std::string_view text);
std::string to_lower(std::string_view text);
std::string to_title(std::string_view text);       // Python's str.title: "it's" becomes "It'S"
std::string capitalize(std::string_view text);     // first character in upper case, all others in lower case
std::string title_words(std::string_view text);    // Jinja's filter `title`: "it's" becomes "It's"
std::string escape_markup(std::string_view text);  // replaces & < > " ' by entities

}  // namespace detail
KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/text/jinja_text_inl.hpp"
#endif

#endif
