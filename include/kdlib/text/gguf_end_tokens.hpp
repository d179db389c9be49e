// SPDX-License-Identifier: Apache-2.0
// Finds tokens of a GGUF file that end an answer although the metadata do not name them. Files often name only one end
// token (<|endoftext|>) while answers end with another one (<|im_end|>); llama.cpp finds the others by their texts, and
// so does kdlib.
#ifndef KDLIB_TEXT_GGUF_END_TOKENS_HPP
#define KDLIB_TEXT_GGUF_END_TOKENS_HPP

#include <string_view>

#include "kdlib/text/tokenizer_data.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {

/// True if llama.cpp takes a token with this text for the end of an answer in any GGUF file. These are ends of turns,
/// messages and texts, and the padding, repository and file marks of fill-in-the-middle.
bool is_gguf_end_text(std::string_view token);

/// Adds the ids of tokens with such texts to data.stop. A text that has another meaning beside certain other tokens is
/// left out: <|end|> beside <|call|> and <|return|> (gpt-oss) or beside <|calls|> and <|flush|>, and </s> beside
/// <|tool_response>.
void add_gguf_end_tokens(TokenizerData& data);

}  // namespace detail
KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/text/gguf_end_tokens_inl.hpp"
#endif

#endif
