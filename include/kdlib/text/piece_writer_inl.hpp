// SPDX-License-Identifier: Apache-2.0
// Bodies of tokenizer_writer.hpp for SentencePiece tokenizers.
#ifndef KDLIB_TEXT_PIECE_WRITER_INL_HPP
#define KDLIB_TEXT_PIECE_WRITER_INL_HPP

#include <algorithm>

#include "kdlib/core/error.hpp"
#include "kdlib/io/gguf_writer.hpp"
#include "kdlib/io/json_writer.hpp"
#include "kdlib/text/piece_model.hpp"
#include "kdlib/text/tokenizer_data.hpp"
#include "kdlib/text/tokenizer_writer.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// A token as files write it; empty for an id without one.
KDLIB_FUNC std::string written_piece(const TokenizerData& data, std::int32_t id) {
  const PieceModel& model = *data.pieces;
  if (model.pieces.has(id)) return std::string(model.pieces.bytes(id));
  for (int b = 0; b < 256; ++b) {
    constexpr char digits[] = "0123456789ABCDEF";
    if (model.byte_token[b] == id) return std::string("<0x") + digits[b >> 4] + digits[b & 15] + '>';
  }
  return std::string(data.model.vocabulary.bytes(id));
}

KDLIB_FUNC void write_replace(JsonWriter& out, const char* kind, std::string_view from, std::string_view to) {
  out.begin_object().member("type", "Replace").key("pattern").begin_object().member(kind, from).end_object();
  out.member("content", to).end_object();
}

KDLIB_FUNC void write_piece_normalizer(const PieceRules& rules, JsonWriter& out) {
  using Kind = NormalizerStep::Kind;
  out.key("normalizer").begin_object().member("type", "Sequence").key("normalizers").begin_array();
  for (const NormalizerStep& step : rules.steps) {
    if (step.kind == Kind::map)
      out.begin_object()
          .member("type", "Precompiled")
          .member("precompiled_charsmap", encode_base64(step.map->blob()))
          .end_object();
    else if (step.kind == Kind::strip_left || step.kind == Kind::strip_right)
      out.begin_object()
          .member("type", "Strip")
          .member("strip_left", step.kind == Kind::strip_left)
          .member("strip_right", step.kind == Kind::strip_right)
          .end_object();
    else if (step.kind == Kind::nfc) out.begin_object().member("type", "NFC").end_object();
    else if (step.kind == NormalizerStep::Kind::prepend)
      out.begin_object().member("type", "Prepend").member("prepend", step.to).end_object();
    else if (step.kind == NormalizerStep::Kind::replace) write_replace(out, "String", step.from, step.to);
    else write_replace(out, "Regex", " {2,}", step.to);
  }
  out.end_array().end_object();
}

KDLIB_FUNC void write_metaspace(const PieceRules& rules, JsonWriter& out) {
  out.begin_object().member("type", "Metaspace").member("replacement", metaspace);
  out.member("prepend_scheme", rules.prefix == PieceRules::Prefix::always  ? "always"
                               : rules.prefix == PieceRules::Prefix::first ? "first"
                                                                           : "never");
  out.member("split", rules.split).end_object();
}

KDLIB_FUNC void write_piece_decoder(const PieceModel& model, JsonWriter& out) {
  out.key("decoder");
  if (model.strip == DecoderStrip::spaces_of_first_token) return write_metaspace(model.rules, out);
  out.begin_object().member("type", "Sequence").key("decoders").begin_array();
  if (model.decodes_metaspace) write_replace(out, "String", metaspace, " ");
  if (model.decodes_bytes) out.begin_object().member("type", "ByteFallback").end_object();
  out.begin_object().member("type", "Fuse").end_object();
  if (model.strip == DecoderStrip::one_space)
    out.begin_object().member("type", "Strip").member("content", " ").member("start", 1).member("stop", 0).end_object();
  out.end_array().end_object();
}

/// Merges in their order. ConfigError where tokenizer.json, whose ranks are all different, has no place for them.
KDLIB_FUNC void write_piece_merges(const TokenizerData& data, JsonWriter& out) {
  struct Entry {
    Merge merge;
    std::int32_t left, right;
  };
  const PieceModel& model = *data.pieces;
  std::vector<Entry> order;
  for (const auto& [left, right] : model.merges.pairs()) order.push_back({model.merges.find(left, right), left, right});
  std::sort(order.begin(), order.end(), [](const Entry& a, const Entry& b) {
    if (a.merge.rank != b.merge.rank) return a.merge.rank < b.merge.rank;
    return a.left != b.left ? a.left < b.left : a.right < b.right;
  });
  out.key("merges").begin_array();
  for (std::size_t i = 0; i < order.size(); ++i) {
    const bool tie = i > 0 && order[i].merge.rank == order[i - 1].merge.rank;
    require<ConfigError>(model.pieces.has(order[i].left) && model.pieces.has(order[i].right) &&
                             !(tie && order[i].merge.id != order[i - 1].merge.id),
                         "[tokenizer] ", data.source, ": the piece \"",
                         printable(model.pieces.bytes(order[i].merge.id)),
                         "\" has the score of another one, or a character without a token, for which tokenizer.json "
                         "has no place");
    out.begin_array().value(model.pieces.bytes(order[i].left)).value(model.pieces.bytes(order[i].right)).end_array();
  }
  out.end_array();
}

/// pre_tokenizer, decoder and model; the caller has written what stands in front.
KDLIB_FUNC void write_piece_model(const TokenizerData& data, JsonWriter& out) {
  const PieceModel& model = *data.pieces;
  require<ConfigError>(model.rules.library == nullptr, "[tokenizer] ", data.source,
                       " normalises text as only tokenizer.model can say; keep that file");
  write_piece_normalizer(model.rules, out);
  out.key("pre_tokenizer");
  if (model.rules.splits_space) {
    out.begin_object().member("type", "Sequence").key("pretokenizers").begin_array();
    out.begin_object().member("type", "WhitespaceSplit").end_object();
    if (model.rules.metaspace) write_metaspace(model.rules, out);
    out.end_array().end_object();
  } else if (model.rules.metaspace) {
    write_metaspace(model.rules, out);
  } else {
    out.null();
  }
  write_piece_decoder(model, out);
  const bool unigram = model.kind == PieceModel::Kind::unigram;
  out.key("model").begin_object().member("type", unigram ? "Unigram" : "BPE");
  out.member("byte_fallback", model.byte_fallback);
  if (unigram) {
    out.member("unk_id", model.unknown).key("vocab").begin_array();
    for (std::int32_t id = 0; id < model.pieces.size(); ++id)
      out.begin_array().value(model.pieces.bytes(id)).value(model.scores[static_cast<std::size_t>(id)]).end_array();
    out.end_array().end_object();
    return;
  }
  out.key("dropout").null().key("unk_token");
  if (model.unknown == Vocabulary::none) out.null();
  else out.value(written_piece(data, model.unknown));
  out.key("continuing_subword_prefix").null().key("end_of_word_suffix").null();
  out.member("fuse_unk", model.fuse_unknown).member("ignore_merges", model.ignore_merges).key("vocab").begin_object();
  for (std::int32_t id = 0; id < data.model.vocabulary.size(); ++id)
    if (data.model.vocabulary.has(id)) out.member(written_piece(data, id), id);
  out.end_object();
  write_piece_merges(data, out);
  out.end_object();
}

KDLIB_FUNC bool has_gguf_pieces(const PieceModel& model) {
  const SentencePieceRules* const library = model.rules.library.get();
  return model.kind == PieceModel::Kind::merges && !model.scores.empty() && !model.rules.metaspace &&
         (library == nullptr || (library->map.empty() && !library->remove_extra_spaces));
}

/// Tokens, types and scores. ConfigError for a tokenizer that has no scores.
KDLIB_FUNC void write_gguf_pieces(const TokenizerData& data, std::int64_t rows, GgufWriter& writer) {
  const PieceModel& model = *data.pieces;
  require<ConfigError>(has_gguf_pieces(model), "[tokenizer] ", data.source,
                       ": GGUF wants the scores of SentencePiece's BPE, which GGUF files and tokenizer.model have, and "
                       "no map of characters; this tokenizer cannot be written");
  std::vector<std::string> tokens;
  std::vector<std::int32_t> types;
  std::vector<float> scores;
  for (std::int32_t id = 0; id < rows; ++id) {
    const bool known = data.model.vocabulary.has(id), piece = model.pieces.has(id);
    const bool byte =
        std::find(std::begin(model.byte_token), std::end(model.byte_token), id) != std::end(model.byte_token);
    const bool special = known && data.special[static_cast<std::size_t>(id)];
    tokens.push_back(known ? written_piece(data, id) : concat("[PAD", id, "]"));
    types.push_back(!known                ? 5
                    : piece               ? model.is_defined(id) ? 4 : 1
                    : byte                ? 6
                    : id == model.unknown ? 2
                    : special             ? 3
                                          : 4);
    scores.push_back(static_cast<std::size_t>(id) < model.scores.size()
                         ? static_cast<float>(model.scores[static_cast<std::size_t>(id)])
                         : 0.0F);
  }
  writer.string("tokenizer.ggml.model", "llama").string("tokenizer.ggml.pre", "default");
  writer.strings("tokenizer.ggml.tokens", tokens).i32s("tokenizer.ggml.token_type", types);
  writer.f32s("tokenizer.ggml.scores", scores);
  writer.boolean("tokenizer.ggml.add_space_prefix", model.strip == DecoderStrip::one_space);
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
