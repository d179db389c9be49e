// SPDX-License-Identifier: Apache-2.0
// Writes a loaded tokenizer to files: as GGUF metadata, or as tokenizer.json with the files beside it.
#ifndef KDLIB_TEXT_TOKENIZER_WRITER_HPP
#define KDLIB_TEXT_TOKENIZER_WRITER_HPP

#include <cstdint>
#include <string>
#include <vector>

#include "kdlib/io/gguf_writer.hpp"
#include "kdlib/text/byte_level_bpe.hpp"

KDLIB_NAMESPACE_BEGIN

/// Adds the keys `tokenizer.ggml.*` and `tokenizer.chat_template` to a GGUF file. The file gets `rows` tokens; an id
/// without a token becomes an unused "[PAD<id>]". Returns notes on what the format cannot store (spaces that added
/// tokens take, more than three ids that end an answer). ConfigError: the tokenizer has ids at or above `rows`, or no
/// pre-tokenizer name of the format stands for its rules.
std::vector<std::string> write_gguf_tokenizer(const Tokenizer& tokenizer, std::int64_t rows, GgufWriter& writer);

/// Returns false for SentencePiece tokenizers that GGUF cannot store: those without scores (from tokenizer.json), those
/// with the model Unigram, and those with a map of characters. write_gguf_tokenizer() refuses these.
bool has_gguf_form(const Tokenizer& tokenizer);

/// Returns the text of a tokenizer.json that gives the same ids.
std::string tokenizer_json(const Tokenizer& tokenizer);

/// Writes tokenizer.json, tokenizer_config.json (named tokens, chat template) and generation_config.json (ids that end
/// an answer) into `directory`, for a tokenizer that was read from another format. `context_length` (tokens) becomes
/// model_max_length.
void save_tokenizer(const Tokenizer& tokenizer, const std::string& directory, std::int64_t context_length);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/text/tokenizer_writer_inl.hpp"
#endif

#endif
