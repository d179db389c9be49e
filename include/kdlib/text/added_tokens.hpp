// SPDX-License-Identifier: Apache-2.0
// Added tokens: whole strings such as <|im_end|> that are found in the text before it is cut into pieces.
#ifndef KDLIB_TEXT_ADDED_TOKENS_HPP
#define KDLIB_TEXT_ADDED_TOKENS_HPP

#include <cstdint>
#include <string>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN

/// One entry of tokenizer.json's `added_tokens`.
struct AddedToken {
  std::int32_t id = 0;
  std::string content;
  bool single_word =
      false;                // only between characters that are no word characters (letters, marks, numbers, underscore)
  bool lstrip = false;      // swallows the white space before it
  bool rstrip = false;      // swallows the white space behind it
  bool normalized = false;  // searched in the normalised text
  bool special = false;     // dropped by decode(ids, true)
};

/// Which added tokens encode() looks for.
enum class SpecialTokens {
  parse,         // all of them
  special_text,  // those marked special are text, others (<think>, <tool_call>) are still found: the library's
                 // encode_special_tokens
  plain          // none: for text that must not be able to close a turn
};

KDLIB_NAMESPACE_END

#endif
