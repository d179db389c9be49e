// SPDX-License-Identifier: Apache-2.0
// The string functions that evaluation tasks are defined by, with the meaning they have in lm-evaluation-harness
// (Python's).
#ifndef KDLIB_TOOLS_TASK_TEXT_HPP
#define KDLIB_TOOLS_TASK_TEXT_HPP

#include <cstdint>
#include <string>
#include <string_view>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN

// All texts are UTF-8; "white space" is what Python's str.isspace() says.

/// The text without white space at both ends.
std::string_view strip(std::string_view text);
/// Bytes of white space at the end.
std::size_t trailing_space(std::string_view text);
/// Code points: Python's len().
std::int64_t count_characters(std::string_view text);
/// Pieces of re.split(r"\s+", text): 1 for the empty text; white space at an end makes an empty piece that counts.
std::int64_t count_words(std::string_view text);
/// Every occurrence from left to right, once.
std::string replace_all(std::string_view text, std::string_view from, std::string_view to);
/// First character in title case, all others in lower case. InputError for the few letters whose case is longer than
/// one character or depends on what stands around them.
std::string capitalize(std::string_view text);
/// HellaSwag's clean-up of WikiHow's marks.
std::string hellaswag_text(std::string_view text);
/// Undoes the tokenisation of a WikiText page.
std::string wikitext_text(std::string_view page);

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/task_text_inl.hpp"
#endif

#endif
