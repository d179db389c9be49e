// SPDX-License-Identifier: Apache-2.0
// The readers of tokenizer files, which call each other. Each reader fills a part of TokenizerData. Every refusal is a
// FormatError that names the file and the key.
#ifndef KDLIB_TEXT_TOKENIZER_READING_HPP
#define KDLIB_TEXT_TOKENIZER_READING_HPP

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN
class GgufFile;
class Json;
struct PostProcessor;

namespace detail {
struct TokenizerData;

/// Reads an id, which must be in [0, Vocabulary::max_id].
std::int32_t read_token_id(const Json& value);
/// Returns the member `type` of a step.
std::string type_of(const Json& object);
/// Refuses a member that is set to anything but null, false, 0 or "".
void require_unset(const Json& model, std::string_view key);
/// Reads the added_tokens of tokenizer.json into data.added.
void read_added_tokens(const Json& list, TokenizerData& data);
/// Returns the value of a key that holds the id of a token.
std::optional<std::int32_t> read_gguf_id(const GgufFile& file, std::string_view key, const TokenizerData& data);
/// Reads the tokens of a file whose tokenizer model is "llama".
void read_gguf_pieces(const GgufFile& file, TokenizerData& data);
/// True if a tokenizer.json has a step that uses the byte-level alphabet.
bool is_byte_level(const Json& root);
/// Reads model, normaliser, pre-tokenizer and decoder of a tokenizer.json that is not byte-level.
void read_piece_tokenizer(const Json& root, TokenizerData& data);
/// Splits a text "left right" at its space. Returns false if the text does not have exactly one space.
bool split_merge(std::string_view text, std::string_view& left, std::string_view& right);
/// Returns the two parts of a merge of tokenizer.json: ["left", "right"] or "left right".
std::pair<std::string_view, std::string_view> read_merge(const Json& entry);
/// Adds the bytes of every piece to the vocabulary; the other parts of the library identify tokens by these bytes.
void add_piece_bytes(TokenizerData& data);

/// Reads a post_processor: ByteLevel (which adds nothing), TemplateProcessing, BertProcessing, RobertaProcessing, or a
/// Sequence with at most one of the last three. FormatError names the file and the key.
PostProcessor read_post_processor(const Json& post);
void read_tokenizer_json(const Json& root, TokenizerData& data);
void read_gguf_tokenizer(const GgufFile& file, TokenizerData& data);
/// Reads tokenizer_config.json, special_tokens_map.json, added_tokens.json, generation_config.json, config.json and the
/// chat templates of a folder; to be called after the folder's tokenizer.json was read.
void read_files_beside(const std::string& folder, TokenizerData& data);
/// Adds eos, and the ids with which gpt-oss ends an answer, to the ids that end an answer.
void finish_stop_ids(TokenizerData& data);
bool begins_as_gguf(const std::string& path);

}  // namespace detail
KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/text/byte_level_bpe.hpp"  // which has the bodies
#endif

#endif
