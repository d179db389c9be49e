// SPDX-License-Identifier: Apache-2.0
// The string functions that define the texts of evaluation tasks. They have the meaning of the functions in
// lm-evaluation-harness, that is, of Python's.
#ifndef KDLIB_TOOLS_TASK_TEXT_HPP
#define KDLIB_TOOLS_TASK_TEXT_HPP

#include <cstdint>
#include <string>
#include <string_view>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN

// All texts are UTF-8; "white space" is what Python's str.isspace() accepts.

/// Returns the text without white space at both ends.
std::string_view strip(std::string_view text);
/// Returns the number of bytes of white space at the end.
std::size_t trailing_space(std::string_view text);
/// Returns the number of code points, as Python's len() does.
std::int64_t count_characters(std::string_view text);
/// Returns the number of pieces of re.split(r"\s+", text). This is 1 for the empty text; white space at an end makes an
/// empty piece, which counts.
std::int64_t count_words(std::string_view text);
/// Replaces every occurrence of `from`, from left to right; inserted text is not searched again.
std::string replace_all(std::string_view text, std::string_view from, std::string_view to);
/// Returns the text with the first character in title case and all others in lower case. InputError: the text has one
/// of the few letters whose other case is longer than one character or depends on the letters around it.
std::string capitalize(std::string_view text);
/// Removes the marks of WikiHow from a text of HellaSwag, as the task does.
std::string hellaswag_text(std::string_view text);
/// Undoes the tokenisation of a page of WikiText.
std::string wikitext_text(std::string_view page);

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/task_text_inl.hpp"
#endif

#endif
