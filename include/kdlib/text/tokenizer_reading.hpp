// SPDX-License-Identifier: Apache-2.0
// The readers of tokenizer files, for one another: each fills a part of TokenizerData. Every refusal is a FormatError
// that names the file and the key.
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

/// An id in [0, Vocabulary::max_id].
std::int32_t read_token_id(const Json& value);
/// The member `type` of a step.
std::string type_of(const Json& object);
/// Refuses a member that is set to anything but null, false, 0 or "".
void require_unset(const Json& model, std::string_view key);
/// tokenizer.json's added_tokens, to data.added.
void read_added_tokens(const Json& list, TokenizerData& data);
/// The value of a key that names a token's id.
std::optional<std::int32_t> read_gguf_id(const GgufFile& file, std::string_view key, const TokenizerData& data);
/// The tokens of a file whose model is "llama".
void read_gguf_pieces(const GgufFile& file, TokenizerData& data);
/// A tokenizer.json has a step of the byte-level alphabet.
bool is_byte_level(const Json& root);
/// Model, normaliser, pre-tokenizer and decoder of a tokenizer.json that is not byte-level.
void read_piece_tokenizer(const Json& root, TokenizerData& data);
/// Splits "left right", which must have exactly one space.
bool split_merge(std::string_view text, std::string_view& left, std::string_view& right);
/// The parts of a merge of tokenizer.json: ["left", "right"] or "left right".
std::pair<std::string_view, std::string_view> read_merge(const Json& entry);
/// Adds the bytes of every piece, under which the rest of the library knows tokens.
void add_piece_bytes(TokenizerData& data);

/// Reads a post_processor: ByteLevel (which adds nothing), TemplateProcessing, BertProcessing, RobertaProcessing, or a
/// Sequence with at most one of the last three. FormatError names file and key.
PostProcessor read_post_processor(const Json& post);
void read_tokenizer_json(const Json& root, TokenizerData& data);
void read_gguf_tokenizer(const GgufFile& file, TokenizerData& data);
/// tokenizer_config.json, special_tokens_map.json, added_tokens.json, generation_config.json, config.json and chat
/// templates of a folder, behind its tokenizer.json.
void read_files_beside(const std::string& folder, TokenizerData& data);
/// Puts eos among the ids that end an answer, and the ids that gpt-oss ends with.
void finish_stop_ids(TokenizerData& data);
bool begins_as_gguf(const std::string& path);

}  // namespace detail
KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/text/byte_level_bpe.hpp"  // which has the bodies
#endif

#endif
