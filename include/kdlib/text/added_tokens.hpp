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
  /// True: the token is found only if no word character (letter, mark, number or underscore) stands directly before or
  /// behind it.
  bool single_word = false;
  bool lstrip = false;      // the token also takes the white space before it
  bool rstrip = false;      // the token also takes the white space behind it
  bool normalized = false;  // the token is searched in the normalised text
  bool special = false;     // Tokenizer::decode(ids, true) drops the token
};

/// Which added tokens encode() looks for.
enum class SpecialTokens {
  parse,         // all of them
  special_text,  // only tokens that are not marked special (<think>, <tool_call>); special ones are read as plain text.
                 // The tokenizers library calls this encode_special_tokens
  plain          // none, for text that must not be able to close a turn of a conversation
};

KDLIB_NAMESPACE_END

#endif
