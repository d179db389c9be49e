// SPDX-License-Identifier: Apache-2.0
// A loaded tokenizer as files again: GGUF metadata, or tokenizer.json with the files beside it.
#ifndef KDLIB_TEXT_TOKENIZER_WRITER_HPP
#define KDLIB_TEXT_TOKENIZER_WRITER_HPP

#include <cstdint>
#include <string>
#include <vector>

#include "kdlib/io/gguf_writer.hpp"
#include "kdlib/text/byte_level_bpe.hpp"

KDLIB_NAMESPACE_BEGIN

/// Adds `tokenizer.ggml.*` and `tokenizer.chat_template`: `rows` tokens, ids without one as unused "[PAD<id>]". Answers
/// notes on what the format has no place for (spaces that added tokens swallow, more than three ids that end an
/// answer). ConfigError: ids from `rows` on, or rules that no pre-tokenizer name of the format stands for.
std::vector<std::string> write_gguf_tokenizer(const Tokenizer& tokenizer, std::int64_t rows, GgufWriter& writer);

/// False for SentencePiece tokenizers that the format has no place for: those without scores (from tokenizer.json),
/// Unigram, and those with a map of characters. write_gguf_tokenizer refuses them.
bool has_gguf_form(const Tokenizer& tokenizer);

/// The text of a tokenizer.json that gives the same ids.
std::string tokenizer_json(const Tokenizer& tokenizer);

/// tokenizer.json, tokenizer_config.json (named tokens, chat template) and generation_config.json (ids that end an
/// answer) in `directory`, for a tokenizer that comes from another format. `context_length`: model_max_length.
void save_tokenizer(const Tokenizer& tokenizer, const std::string& directory, std::int64_t context_length);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/text/tokenizer_writer_inl.hpp"
#endif

#endif
