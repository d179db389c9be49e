// SPDX-License-Identifier: Apache-2.0
// Which tokens end an answer for readers of GGUF files beyond those that the metadata name. Files often name only one
// end (<|endoftext|>) while answers end with another (<|im_end|>), so llama.cpp finds the others by their texts.
#ifndef KDLIB_TEXT_GGUF_END_TOKENS_HPP
#define KDLIB_TEXT_GGUF_END_TOKENS_HPP

#include <string_view>

#include "kdlib/text/tokenizer_data.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {

/// True for a text that llama.cpp takes for the end of an answer in any GGUF file: ends of turns, messages and texts,
/// and the padding, repository and file marks of fill-in-the-middle.
bool is_gguf_end_text(std::string_view token);

/// Adds to data.stop the ids of tokens with such texts. A text that the metadata give another meaning is left out:
/// <|end|> beside <|call|> and <|return|> (gpt-oss) or <|calls|> and <|flush|>, </s> beside <|tool_response>.
void add_gguf_end_tokens(TokenizerData& data);

}  // namespace detail
KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/text/gguf_end_tokens_inl.hpp"
#endif

#endif
