// SPDX-License-Identifier: Apache-2.0
// Bodies of tokenizer_writer.hpp.
#ifndef KDLIB_TEXT_TOKENIZER_WRITER_INL_HPP
#define KDLIB_TEXT_TOKENIZER_WRITER_INL_HPP

#include <algorithm>

#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/json_writer.hpp"
#include "kdlib/io/paths.hpp"
#include "kdlib/text/gguf_end_tokens.hpp"
#include "kdlib/text/piece_writer_inl.hpp"
#include "kdlib/text/tokenizer_data.hpp"
#include "kdlib/text/tokenizer_writer.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// The added token of an id, or nullptr. Added tokens are sorted by id.
KDLIB_FUNC const AddedToken* find_added(const Tokenizer& tokenizer, std::int32_t id) {
  const std::vector<AddedToken>& list = tokenizer.added_tokens();
  const auto at = std::lower_bound(list.begin(), list.end(), id,
                                   [](const AddedToken& t, std::int32_t wanted) { return t.id < wanted; });
  return at != list.end() && at->id == id ? &*at : nullptr;
}

/// A token as vocabulary files write it: added ones literally, others in the byte-level alphabet.
KDLIB_FUNC std::string token_text(const Tokenizer& tokenizer, std::int32_t id) {
  const AddedToken* added = find_added(tokenizer, id);
  return added != nullptr ? added->content : to_alphabet(tokenizer.token_bytes(id));
}

KDLIB_FUNC void note_added_tokens(const Tokenizer& tokenizer, std::vector<std::string>& notes) {
  for (const AddedToken& t : tokenizer.added_tokens())
    if (t.lstrip || t.rstrip || t.single_word)
      notes.push_back(
          concat("the added token \"", t.content,
                 "\" has lstrip, rstrip or single_word set, for which GGUF has no place: it is written without"));
}

/// eos, then at most two others as end of turn and end of message; gguf_end_tokens.hpp has those that need no key.
KDLIB_FUNC void write_gguf_ids(const Tokenizer& tokenizer, GgufWriter& writer, std::vector<std::string>& notes) {
  const auto id = [&](const char* key, std::int32_t value) { writer.u32(key, static_cast<std::uint32_t>(value)); };
  if (const auto bos = tokenizer.bos_id()) id("tokenizer.ggml.bos_token_id", *bos);
  std::vector<std::int32_t> stop;
  for (const std::int32_t end : tokenizer.stop_ids())
    if (tokenizer.has_token(end)) stop.push_back(end);
    else notes.push_back(concat("id ", end, " ends an answer, but no token has it: it is left out"));
  std::optional<std::int32_t> eos = tokenizer.eos_id();
  if (!eos && !stop.empty()) eos = stop.front();
  if (eos) {
    id("tokenizer.ggml.eos_token_id", *eos);
    stop.erase(std::remove(stop.begin(), stop.end(), *eos), stop.end());
  }
  const char* const others[] = {"tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id"};
  // Readers find some ends by their texts: the keys are first for those that need one.
  const auto found = [&](std::int32_t end) { return detail::is_gguf_end_text(tokenizer.token_bytes(end)); };
  std::stable_partition(stop.begin(), stop.end(), [&](std::int32_t end) { return !found(end); });
  for (std::size_t i = 0; i < stop.size(); ++i) {
    if (i < 2) id(others[i], stop[i]);
    else if (!found(stop[i]))
      notes.push_back(
          concat("id ", stop[i], " ends an answer, but GGUF has place for three such ids only: it is left out"));
  }
  if (const auto pad = tokenizer.pad_id()) id("tokenizer.ggml.padding_token_id", *pad);
  if (const auto unknown = tokenizer.unknown_id()) id("tokenizer.ggml.unknown_token_id", *unknown);
}

KDLIB_FUNC void write_pre_tokenizer(const Tokenizer& tokenizer, JsonWriter& out) {
  const auto byte_level = [&](bool regex) {
    out.begin_object()
        .member("type", "ByteLevel")
        .member("add_prefix_space", false)
        .member("trim_offsets", true)
        .member("use_regex", regex)
        .end_object();
  };
  out.key("pre_tokenizer");
  const PreTokenizer kind = tokenizer.pre_tokenizer();
  if (kind == PreTokenizer::gpt2) return byte_level(true);
  out.begin_object().member("type", "Sequence").key("pretokenizers").begin_array();
  if (kind == PreTokenizer::gpt2_digits) {
    out.begin_object().member("type", "Digits").member("individual_digits", true).end_object();
  } else {
    out.begin_object()
        .member("type", "Split")
        .key("pattern")
        .begin_object()
        .member("Regex", pre_tokenizer_regex(kind))
        .end_object();
    out.member("behavior", "Isolated").member("invert", false).end_object();
  }
  byte_level(kind == PreTokenizer::gpt2_digits);
  out.end_array().end_object();
}

KDLIB_FUNC void write_template(const char* key, const std::vector<TemplatePiece>& pieces, JsonWriter& out) {
  out.key(key).begin_array();
  for (const TemplatePiece& piece : pieces) {
    const bool tokens = piece.kind == TemplatePiece::Kind::tokens;
    out.begin_object().key(tokens ? "SpecialToken" : "Sequence").begin_object();
    out.member("id", tokens ? std::string_view(piece.name) : piece.kind == TemplatePiece::Kind::text ? "A" : "B");
    out.member("type_id", piece.type_id).end_object().end_object();
  }
  out.end_array();
}

KDLIB_FUNC void write_post_processor(const Tokenizer& tokenizer, JsonWriter& out) {
  const PostProcessor& post = tokenizer.post_processor();
  out.key("post_processor");
  if (post.single.empty() && tokenizer.model() != TokenizerModel::byte_level_bpe) {
    out.null();
    return;
  }
  if (post.single.empty()) {
    out.begin_object()
        .member("type", "ByteLevel")
        .member("add_prefix_space", false)
        .member("trim_offsets", false)
        .member("use_regex", false)
        .end_object();
    return;
  }
  out.begin_object().member("type", "TemplateProcessing");
  write_template("single", post.single, out);
  write_template("pair", post.pair, out);
  out.key("special_tokens").begin_object();
  std::vector<std::string_view> written;
  for (const auto* pieces : {&post.single, &post.pair}) {
    for (const TemplatePiece& piece : *pieces) {
      if (piece.kind != TemplatePiece::Kind::tokens ||
          std::find(written.begin(), written.end(), piece.name) != written.end())
        continue;
      written.push_back(piece.name);
      out.key(piece.name).begin_object().member("id", piece.name).member("ids", piece.ids).key("tokens").begin_array();
      for (const std::int32_t id : piece.ids) out.value(token_text(tokenizer, id));
      out.end_array().end_object();
    }
  }
  out.end_object().end_object();
}

/// add_bos_token and add_eos_token. ConfigError for a template that says more.
KDLIB_FUNC void write_gguf_post_processor(const Tokenizer& tokenizer, GgufWriter& writer) {
  const std::vector<std::int32_t> prefix = tokenizer.prefix_ids(), suffix = tokenizer.suffix_ids();
  const auto is = [](const std::vector<std::int32_t>& ids, std::optional<std::int32_t> id) {
    return ids.empty() || (id && ids.size() == 1 && ids[0] == *id);
  };
  const std::size_t texts = static_cast<std::size_t>(
      std::count_if(tokenizer.post_processor().single.begin(), tokenizer.post_processor().single.end(),
                    [](const TemplatePiece& piece) { return piece.kind == TemplatePiece::Kind::text; }));
  require<ConfigError>(texts <= 1 && is(prefix, tokenizer.bos_id()) && is(suffix, tokenizer.eos_id()), "[tokenizer] ",
                       tokenizer.source(),
                       ": post_processor puts other tokens around a text than bos_token in front and eos_token behind, "
                       "for which GGUF has no place; this tokenizer cannot be written");
  writer.boolean("tokenizer.ggml.add_bos_token", !prefix.empty());
  writer.boolean("tokenizer.ggml.add_eos_token", !suffix.empty());
}

/// Ids from this on are added tokens without a gap: they need no entry in the vocabulary to keep their ids.
KDLIB_FUNC std::int32_t first_id_behind_vocabulary(const Tokenizer& tokenizer) {
  std::int32_t first = tokenizer.vocab_size();
  while (first > 0 && find_added(tokenizer, first - 1) != nullptr) --first;
  for (std::int32_t id = 0; id < first; ++id)
    if (!tokenizer.has_token(id)) return tokenizer.vocab_size();
  return first;
}

}  // namespace detail

namespace detail {

/// Tokens and merges of byte-level BPE. ConfigError: rules that no name of the format stands for, or no merges.
KDLIB_FUNC void write_gguf_byte_level(const Tokenizer& tokenizer, std::int64_t rows, GgufWriter& writer) {
  const PreTokenizer pre = tokenizer.pre_tokenizer();
  const std::string_view name = gguf_pre_tokenizer_name(pre, tokenizer.normalizes_nfc(), tokenizer.ignores_merges());
  require<ConfigError>(!name.empty(), "[tokenizer] ", tokenizer.source(),
                       ": normalizer and ignore_merges do not go with the pre-tokenizer ", pre_tokenizer_name(pre),
                       " as GGUF's names of pre-tokenizers have them; this tokenizer cannot be written");
  std::vector<std::string> tokens, merges;
  std::vector<std::int32_t> types;
  for (std::int32_t id = 0; id < rows; ++id) {
    const AddedToken* added = find_added(tokenizer, id);
    const bool known = tokenizer.has_token(id);
    tokens.push_back(known ? token_text(tokenizer, id) : concat("[PAD", id, "]"));
    types.push_back(!known ? 5 : added == nullptr ? 1 : added->special ? 3 : 4);
  }
  for (const auto& [left, right] : tokenizer.merges())
    merges.push_back(to_alphabet(tokenizer.token_bytes(left)) + " " + to_alphabet(tokenizer.token_bytes(right)));
  writer.string("tokenizer.ggml.model", "gpt2").string("tokenizer.ggml.pre", name);
  writer.strings("tokenizer.ggml.tokens", tokens).i32s("tokenizer.ggml.token_type", types);
  require<ConfigError>(!merges.empty(), "[tokenizer] ", tokenizer.source(),
                       ": there are no merges, which readers of GGUF files want; this tokenizer cannot be written");
  writer.strings("tokenizer.ggml.merges", merges);
}

}  // namespace detail

KDLIB_FUNC std::vector<std::string> write_gguf_tokenizer(const Tokenizer& tokenizer, std::int64_t rows,
                                                         GgufWriter& writer) {
  require<ConfigError>(tokenizer.vocab_size() <= rows, "[tokenizer] ", tokenizer.source(), ": the highest token id is ",
                       tokenizer.vocab_size() - 1, ", the model has ", rows, " rows");
  if (tokenizer.data_->pieces != nullptr) detail::write_gguf_pieces(*tokenizer.data_, rows, writer);
  else detail::write_gguf_byte_level(tokenizer, rows, writer);
  std::vector<std::string> notes;
  detail::write_gguf_ids(tokenizer, writer, notes);
  detail::write_gguf_post_processor(tokenizer, writer);
  if (!tokenizer.chat_template().empty()) writer.string("tokenizer.chat_template", tokenizer.chat_template());
  detail::note_added_tokens(tokenizer, notes);
  return notes;
}

KDLIB_FUNC bool has_gguf_form(const Tokenizer& tokenizer) {
  return tokenizer.data_->pieces == nullptr || detail::has_gguf_pieces(*tokenizer.data_->pieces);
}

KDLIB_FUNC std::string tokenizer_json(const Tokenizer& tokenizer) {
  const std::int32_t behind = detail::first_id_behind_vocabulary(tokenizer);
  JsonWriter out(JsonStyle{2, NonFinite::refuse});
  out.begin_object()
      .member("version", "1.0")
      .key("truncation")
      .null()
      .key("padding")
      .null()
      .key("added_tokens")
      .begin_array();
  for (const AddedToken& t : tokenizer.added_tokens()) {
    out.begin_object()
        .member("id", t.id)
        .member("content", t.content)
        .member("single_word", t.single_word)
        .member("lstrip", t.lstrip);
    out.member("rstrip", t.rstrip).member("normalized", t.normalized).member("special", t.special).end_object();
  }
  out.end_array();
  if (tokenizer.data_->pieces != nullptr) {
    detail::write_post_processor(tokenizer, out);
    detail::write_piece_model(*tokenizer.data_, out);
    return out.end_object().text();
  }
  out.key("normalizer");
  if (tokenizer.normalizes_nfc()) out.begin_object().member("type", "NFC").end_object();
  else out.null();
  detail::write_pre_tokenizer(tokenizer, out);
  detail::write_post_processor(tokenizer, out);
  out.key("decoder")
      .begin_object()
      .member("type", "ByteLevel")
      .member("add_prefix_space", false)
      .member("trim_offsets", false)
      .member("use_regex", false)
      .end_object();
  out.key("model").begin_object().member("type", "BPE").key("dropout").null().key("unk_token");
  if (const auto unknown = tokenizer.unknown_id()) out.value(detail::token_text(tokenizer, *unknown));
  else out.null();
  out.key("continuing_subword_prefix").null().key("end_of_word_suffix").null();
  out.member("fuse_unk", false)
      .member("byte_fallback", false)
      .member("ignore_merges", tokenizer.ignores_merges())
      .key("vocab")
      .begin_object();
  for (std::int32_t id = 0; id < behind; ++id)
    if (tokenizer.has_token(id)) out.member(detail::token_text(tokenizer, id), id);
  out.end_object().key("merges").begin_array();
  for (const auto& [left, right] : tokenizer.merges())
    out.begin_array()
        .value(detail::to_alphabet(tokenizer.token_bytes(left)))
        .value(detail::to_alphabet(tokenizer.token_bytes(right)))
        .end_array();
  out.end_array().end_object().end_object();
  return out.text();
}

KDLIB_FUNC void save_tokenizer(const Tokenizer& tokenizer, const std::string& directory, std::int64_t context_length) {
  make_directories(directory);
  write_file_atomically(join_path(directory, "tokenizer.json"), tokenizer_json(tokenizer));
  JsonWriter config(JsonStyle{2, NonFinite::refuse}), generation(JsonStyle{2, NonFinite::refuse});
  config.begin_object().member("add_prefix_space", false);
  generation.begin_object();
  const auto named = [&](const char* token, const char* id, std::optional<std::int32_t> value) {
    // A name here makes an added token of what it names, which is found before pieces are joined: not for plain pieces.
    if (value && detail::find_added(tokenizer, *value) != nullptr)
      config.member(token, detail::token_text(tokenizer, *value));
    else config.key(token).null();
    if (value && id != nullptr) generation.member(id, *value);
  };
  named("bos_token", "bos_token_id", tokenizer.bos_id());
  named("pad_token", "pad_token_id", tokenizer.pad_id());
  named("eos_token", nullptr, tokenizer.eos_id());
  if (tokenizer.stop_ids().size() == 1) generation.member("eos_token_id", tokenizer.stop_ids()[0]);
  else if (!tokenizer.stop_ids().empty()) generation.member("eos_token_id", tokenizer.stop_ids());
  if (!tokenizer.chat_template().empty()) config.member("chat_template", tokenizer.chat_template());
  config.member("clean_up_tokenization_spaces", false)
      .member("model_max_length", context_length)
      .member("tokenizer_class", "PreTrainedTokenizerFast");
  write_file_atomically(join_path(directory, "tokenizer_config.json"), config.end_object().text());
  write_file_atomically(join_path(directory, "generation_config.json"), generation.end_object().text());
}

KDLIB_NAMESPACE_END

#endif
