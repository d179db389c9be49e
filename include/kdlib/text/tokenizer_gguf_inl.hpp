// SPDX-License-Identifier: Apache-2.0
// Reader of byte_level_bpe.hpp for GGUF metadata (tokenizer.ggml.*). Every refusal names the file and the key.
#ifndef KDLIB_TEXT_TOKENIZER_GGUF_INL_HPP
#define KDLIB_TEXT_TOKENIZER_GGUF_INL_HPP

#include <algorithm>
#include <cstring>

#include "kdlib/io/gguf.hpp"
#include "kdlib/io/mapped_file.hpp"
#include "kdlib/io/utf8.hpp"
#include "kdlib/text/gguf_end_tokens.hpp"
#include "kdlib/text/piece_gguf_inl.hpp"
#include "kdlib/text/tokenizer_data.hpp"
#include "kdlib/text/tokenizer_reading.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// "left right" with exactly one space.
KDLIB_FUNC bool split_merge(std::string_view text, std::string_view& left, std::string_view& right) {
  const std::size_t space = text.find(' ');
  if (space == std::string_view::npos || text.find(' ', space + 1) != std::string_view::npos) return false;
  left = text.substr(0, space);
  right = text.substr(space + 1);
  return true;
}

KDLIB_FUNC void finish_stop_ids(TokenizerData& data) {
  if (data.eos) data.stop.push_back(*data.eos);
  // gpt-oss: <|return|> and <|call|> end an answer. <|end|>, which GGUF files may name as end of turn, does not: more
  // messages follow.
  const auto added = [&](std::string_view content) {
    const auto hit = std::find_if(data.added.begin(), data.added.end(),
                                  [&](const AddedToken& token) { return token.content == content; });
    return hit == data.added.end() ? Vocabulary::none : hit->id;
  };
  const std::int32_t ret = added("<|return|>"), call = added("<|call|>"), end = added("<|end|>");
  if (ret != Vocabulary::none && call != Vocabulary::none && end != Vocabulary::none &&
      added("<|channel|>") != Vocabulary::none) {
    data.stop.insert(data.stop.end(), {ret, call});
    data.stop.erase(std::remove(data.stop.begin(), data.stop.end(), end), data.stop.end());
  }
  std::sort(data.stop.begin(), data.stop.end());
  data.stop.erase(std::unique(data.stop.begin(), data.stop.end()), data.stop.end());
}

KDLIB_FUNC bool begins_as_gguf(const std::string& path) {
  const MappedFile file(path);
  return file.bytes().size() >= 4 && std::memcmp(file.bytes().data(), "GGUF", 4) == 0;
}

/// Values of tokenizer.ggml.token_type.
enum class GgufTokenType : std::int64_t {
  normal = 1,
  unknown = 2,
  control = 3,
  user_defined = 4,
  unused = 5,
  byte = 6
};

KDLIB_FUNC void read_gguf_tokens(const GgufFile& file, TokenizerData& data) {
  const auto refuse = [&](std::size_t i, std::string_view problem) {
    fail<FormatError>("[tokenizer] ", file.path(), ": tokenizer.ggml.tokens[", i, "] ", problem);
  };
  const std::vector<std::string_view> tokens = file.at("tokenizer.ggml.tokens").as_strings();
  const GgufValue* kinds = file.find("tokenizer.ggml.token_type");
  const std::vector<std::int64_t> types =
      kinds != nullptr ? kinds->as_ints() : std::vector<std::int64_t>(tokens.size(), 1);
  require<FormatError>(types.size() == tokens.size(), "[tokenizer] ", file.path(), ": tokenizer.ggml.token_type has ",
                       types.size(), " entries for ", tokens.size(), " tokens");
  require<FormatError>(!tokens.empty() && tokens.size() <= static_cast<std::size_t>(Vocabulary::max_id) + 1,
                       "[tokenizer] ", file.path(), ": tokenizer.ggml.tokens has ", tokens.size(),
                       " entries; kdlib reads 1 to ", Vocabulary::max_id + 1);
  data.model.vocabulary = Vocabulary(tokens.size());
  std::vector<std::string_view> contents;
  std::string bytes;
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const auto id = static_cast<std::int32_t>(i);
    const auto type = static_cast<GgufTokenType>(types[i]);
    if (type == GgufTokenType::unused) continue;  // padding rows
    if (type == GgufTokenType::normal) {
      bytes.clear();
      if (tokens[i].empty() || !append_alphabet_bytes(tokens[i], bytes))
        refuse(i, "is not written in the byte-level alphabet");
      if (!data.model.vocabulary.add(bytes, id)) refuse(i, "is there twice");
    } else if (type == GgufTokenType::control || type == GgufTokenType::user_defined ||
               type == GgufTokenType::unknown) {
      if (tokens[i].empty() || find_invalid_utf8(tokens[i]) != std::string_view::npos)
        refuse(i, "is an added token but no text");
      if (!data.model.vocabulary.add_hidden(tokens[i], id)) refuse(i, "is beyond 4 GiB of tokens");
      data.added.push_back(
          {id, std::string(tokens[i]), false, false, false, false, type != GgufTokenType::user_defined});
      contents.push_back(tokens[i]);
    } else {
      refuse(i, concat("has type ", types[i], "; a byte-level vocabulary has 1 to 5"));
    }
  }
  std::sort(contents.begin(), contents.end());
  const auto twice = std::adjacent_find(contents.begin(), contents.end());
  require<FormatError>(twice == contents.end(), "[tokenizer] ", file.path(),
                       ": tokenizer.ggml.tokens has the added token \"",
                       twice == contents.end() ? std::string() : printable(*twice), "\" twice");
}

KDLIB_FUNC void read_gguf_merges(const GgufFile& file, TokenizerData& data) {
  std::string left, right;
  const std::vector<std::string_view> merges = file.at("tokenizer.ggml.merges").as_strings();
  data.model.merges.reserve(merges.size());
  for (std::size_t i = 0; i < merges.size(); ++i) {
    std::string_view first, second;
    left.clear();
    right.clear();
    std::string problem;
    if (!split_merge(merges[i], first, second)) problem = "must have two parts with one space between them";
    else if (!append_alphabet_bytes(first, left) || !append_alphabet_bytes(second, right))
      problem = "is not written in the byte-level alphabet";
    else problem = data.add_merge(left, right, static_cast<std::uint32_t>(i));
    require<FormatError>(problem.empty(), "[tokenizer] ", file.path(), ": tokenizer.ggml.merges[", i, "] ", problem);
  }
}

KDLIB_FUNC std::optional<std::int32_t> read_gguf_id(const GgufFile& file, std::string_view key,
                                                    const TokenizerData& data) {
  const GgufValue* value = file.find(key);
  if (value == nullptr) return std::nullopt;
  const std::uint64_t id = value->as_uint();
  require<FormatError>(
      id <= static_cast<std::uint64_t>(Vocabulary::max_id) && data.model.vocabulary.has(static_cast<std::int32_t>(id)),
      "[tokenizer] ", file.path(), ": ", key, " is ", id, ", which no token has");
  return static_cast<std::int32_t>(id);
}

/// add_bos_token (`adds_bos` where the file has none) and add_eos_token.
KDLIB_FUNC void read_gguf_post_processor(const GgufFile& file, bool adds_bos, TokenizerData& data) {
  const auto pieces = [&](std::string_view flag, bool otherwise, std::string_view name,
                          std::optional<std::int32_t> id) {
    std::vector<TemplatePiece> out;
    if (!file.bool_or(flag, otherwise)) return out;
    require<FormatError>(id.has_value(), "[tokenizer] ", file.path(), ": ", flag, " is true, but there is no ", name);
    out.push_back({TemplatePiece::Kind::tokens, std::string(data.model.vocabulary.bytes(*id)), {*id}, 0});
    return out;
  };
  data.post_processor =
      PostProcessor::around(pieces("tokenizer.ggml.add_bos_token", adds_bos, "tokenizer.ggml.bos_token_id", data.bos),
                            pieces("tokenizer.ggml.add_eos_token", false, "tokenizer.ggml.eos_token_id", data.eos));
}

/// Tokens, merges and rules of byte-level BPE. Answers whether bos stands in front where the file does not say so.
KDLIB_FUNC bool read_gguf_byte_level(const GgufFile& file, TokenizerData& data) {
  const GgufPreTokenizer& pre = gguf_pre_tokenizer(file.at("tokenizer.ggml.pre").as_string(), file.path());
  data.pre_tokenizer = pre.kind;
  data.nfc = pre.nfc;
  data.model.ignore_merges = pre.ignores_merges;
  require<FormatError>(!file.bool_or("tokenizer.ggml.add_space_prefix", false), "[tokenizer] ", file.path(),
                       ": tokenizer.ggml.add_space_prefix is true; kdlib adds no space in front of a text");
  read_gguf_tokens(file, data);
  read_gguf_merges(file, data);
  data.model.set_byte_tokens();
  return pre.adds_bos;
}

KDLIB_FUNC void read_gguf_tokenizer(const GgufFile& file, TokenizerData& data) {
  const std::string_view model = file.at("tokenizer.ggml.model").as_string();
  require<FormatError>(model == "gpt2" || model == "llama", "[tokenizer] ", file.path(), ": tokenizer.ggml.model is \"",
                       printable(model), "\"; kdlib reads byte-level BPE (\"gpt2\") and SentencePiece BPE (\"llama\")");
  bool adds_bos = true;
  if (model == "llama") read_gguf_pieces(file, data);
  else adds_bos = read_gguf_byte_level(file, data);
  data.bos = read_gguf_id(file, "tokenizer.ggml.bos_token_id", data);
  data.eos = read_gguf_id(file, "tokenizer.ggml.eos_token_id", data);
  data.pad = read_gguf_id(file, "tokenizer.ggml.padding_token_id", data);
  for (const char* key : {"tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"})
    if (const auto id = read_gguf_id(file, key, data)) data.stop.push_back(*id);
  for (const char* key :
       {"tokenizer.ggml.fim_pad_token_id", "tokenizer.ggml.fim_rep_token_id", "tokenizer.ggml.fim_sep_token_id"})
    if (const auto id = read_gguf_id(file, key, data)) data.stop.push_back(*id);
  add_gguf_end_tokens(data);
  read_gguf_post_processor(file, adds_bos && data.bos, data);
  data.chat_template = file.string_or("tokenizer.chat_template", "");
  constexpr std::string_view named = "tokenizer.chat_template.";
  for (const GgufValue& value : file.metadata())
    if (value.key().substr(0, named.size()) == named)
      data.named_chat_templates.emplace_back(value.key().substr(named.size()), value.as_string());
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
