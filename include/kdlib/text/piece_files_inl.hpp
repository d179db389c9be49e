// SPDX-License-Identifier: Apache-2.0
// Readers of byte_level_bpe.hpp for tokenizer.json whose model works on characters: BPE with byte fallback, Unigram.
#ifndef KDLIB_TEXT_PIECE_FILES_INL_HPP
#define KDLIB_TEXT_PIECE_FILES_INL_HPP

#include <cmath>
#include <unordered_map>

#include "kdlib/core/error.hpp"
#include "kdlib/io/json.hpp"
#include "kdlib/io/utf8.hpp"
#include "kdlib/text/piece_model.hpp"
#include "kdlib/text/tokenizer_data.hpp"
#include "kdlib/text/tokenizer_reading.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

KDLIB_FUNC bool has_step(const Json& step, std::string_view list, std::string_view type) {
  if (!step.is_object()) return false;
  const auto own = step.find_set("type");
  if (own && own->is_string() && own->as_string() == type) return true;
  for (const Json& part : step.find_set(list).value_or(Json()))
    if (const auto name = part.find_set("type"); name && name->is_string() && name->as_string() == type) return true;
  return false;
}

KDLIB_FUNC bool is_byte_level(const Json& root) {
  return has_step(root.find_set("pre_tokenizer").value_or(Json()), "pretokenizers", "ByteLevel") ||
         has_step(root.find_set("decoder").value_or(Json()), "decoders", "ByteLevel");
}

/// {"String": text} of a pattern; the regex " {2,}" gives `squeeze`.
KDLIB_FUNC std::string read_pattern(const Json& step, bool* squeeze) {
  const Json pattern = step.at("pattern");
  if (const auto regex = pattern.find_set("Regex")) {
    if (squeeze == nullptr || regex->as_string() != " {2,}")
      regex->refuse("is a regex; here kdlib reads strings and the regex \" {2,}\"");
    *squeeze = true;
    return " ";
  }
  std::string text(pattern.at("String").as_string());
  if (text.empty()) pattern.refuse("is empty");
  return text;
}

KDLIB_FUNC std::shared_ptr<const CharsMap> read_chars_map(const Json& normalizer) {
  const Json text = normalizer.at("precompiled_charsmap");
  std::string blob;
  if (!decode_base64(text.as_string(), blob)) text.refuse("is no base64");
  return std::make_shared<const CharsMap>(std::move(blob), normalizer.path());
}

KDLIB_FUNC void read_piece_normalizer(const Json& normalizer, PieceRules& rules) {
  constexpr std::size_t most = 64;
  if (normalizer.is_null()) return;
  const std::string type = type_of(normalizer);
  NormalizerStep step;
  if (type == "Sequence") {
    for (const Json& part : normalizer.at("normalizers")) {
      if (type_of(part) == "Sequence") part.refuse("is a Sequence within a Sequence");
      read_piece_normalizer(part, rules);
    }
    return;
  }
  if (type == "NFC") {
    step.kind = NormalizerStep::Kind::nfc;
  } else if (type == "Prepend") {
    step.kind = NormalizerStep::Kind::prepend;
    step.to = normalizer.at("prepend").as_string();
  } else if (type == "Replace") {
    bool squeeze = false;
    step.from = read_pattern(normalizer, &squeeze);
    step.to = normalizer.at("content").as_string();
    step.kind = squeeze ? NormalizerStep::Kind::squeeze : NormalizerStep::Kind::replace;
  } else if (type == "Precompiled") {
    step.kind = NormalizerStep::Kind::map;
    step.map = read_chars_map(normalizer);
    if (step.map->empty()) return;
  } else if (type == "Strip") {
    const bool left = normalizer.at("strip_left").as_bool(), right = normalizer.at("strip_right").as_bool();
    step.kind = NormalizerStep::Kind::strip_left;
    if (left) rules.steps.push_back(step);
    step.kind = NormalizerStep::Kind::strip_right;
    if (!right) return;
  } else {
    normalizer.at("type").refuse(
        concat("is \"", type, "\"; kdlib knows NFC, Precompiled, Prepend, Replace, Strip and Sequence"));
  }
  if (rules.steps.size() == most) normalizer.refuse(concat("has more than ", most, " steps"));
  // Steps that lengthen a text could make it grow without bound when there are many.
  if (step.to.size() > 64) normalizer.refuse("writes more than 64 bytes at once");
  rules.steps.push_back(std::move(step));
}

/// `prepend_scheme`, or `add_prefix_space` of earlier versions.
KDLIB_FUNC PieceRules::Prefix read_prefix(const Json& step) {
  const auto scheme = step.find_set("prepend_scheme");
  if (!scheme) return step.bool_or("add_prefix_space", true) ? PieceRules::Prefix::always : PieceRules::Prefix::never;
  if (scheme->as_string() == "always") return PieceRules::Prefix::always;
  if (scheme->as_string() == "first") return PieceRules::Prefix::first;
  if (scheme->as_string() == "never") return PieceRules::Prefix::never;
  scheme->refuse(concat("is \"", scheme->as_string(), "\"; needed is always, first or never"));
}

KDLIB_FUNC void require_metaspace(const Json& step) {
  if (step.at("replacement").as_string() != metaspace) step.at("replacement").refuse("must be U+2581");
}

KDLIB_FUNC void read_piece_pre_tokenizer(const Json& pre, PieceRules& rules) {
  if (pre.is_null()) return;
  const std::string type = type_of(pre);
  if (type == "Sequence") {
    for (const Json& part : pre.at("pretokenizers")) {
      if (type_of(part) == "Sequence") part.refuse("is a Sequence within a Sequence");
      read_piece_pre_tokenizer(part, rules);
    }
    return;
  }
  if (type == "WhitespaceSplit") {
    if (rules.metaspace) pre.refuse("stands behind Metaspace; kdlib reads it in front");
    rules.splits_space = true;
    return;
  }
  if (type == "Split") {
    // Gemma splits at spaces, of which its normaliser leaves none.
    const std::string at = read_pattern(pre, nullptr);
    bool gone = false;
    for (const NormalizerStep& step : rules.steps) {
      if (step.kind == NormalizerStep::Kind::replace && step.from == at) gone = true;
      if (step.kind != NormalizerStep::Kind::nfc && step.to.find(at) != std::string::npos) gone = false;
    }
    if (!gone) pre.refuse("splits at a string that the normalizer does not replace; kdlib knows Metaspace here");
    return;
  }
  if (type != "Metaspace")
    pre.at("type").refuse(concat("is \"", type,
                                 "\"; kdlib knows Metaspace, WhitespaceSplit in front of it, and none for this "
                                 "kind of tokenizer"));
  if (rules.metaspace) pre.refuse("is the second Metaspace");
  require_metaspace(pre);
  rules.metaspace = true;
  rules.prefix = read_prefix(pre);
  rules.split = pre.bool_or("split", true);
}

KDLIB_FUNC void read_piece_decoder(const Json& decoder, PieceModel& model) {
  if (decoder.is_null()) return;
  const bool sequence = type_of(decoder) == "Sequence";
  bool fused = false;
  const auto read = [&](const Json& step) {
    const std::string type = type_of(step);
    if (type == "Replace") {
      if (read_pattern(step, nullptr) != metaspace || step.at("content").as_string() != " ")
        step.refuse("must replace U+2581 by a space");
      model.decodes_metaspace = true;
    } else if (type == "ByteFallback") {
      model.decodes_bytes = true;
    } else if (type == "Fuse") {
      fused = true;
    } else if (type == "Metaspace") {
      require_metaspace(step);
      model.decodes_metaspace = true;
      if (read_prefix(step) != PieceRules::Prefix::never) model.strip = DecoderStrip::spaces_of_first_token;
    } else if (type == "Strip") {
      if (!fused || step.at("content").as_string() != " " || step.at("start").as_int() != 1 ||
          step.at("stop").as_int() != 0)
        step.refuse("must take one space from the front of the text, behind Fuse");
      model.strip = DecoderStrip::one_space;
    } else {
      step.at("type").refuse(
          concat("is \"", type, "\"; kdlib knows Replace, ByteFallback, Fuse, Strip and Metaspace here"));
    }
  };
  if (!sequence) return read(decoder);
  for (const Json& step : decoder.at("decoders")) read(step);
}

KDLIB_FUNC void add_piece(const Json& value, std::string_view piece, std::int32_t id, PieceModel& model) {
  if (piece.empty()) value.refuse("belongs to an empty piece");
  if (piece.size() > PieceModel::longest_piece)
    value.refuse(
        concat("belongs to a piece of ", piece.size(), " bytes; at most ", PieceModel::longest_piece, " are read"));
  if (!model.pieces.add(piece, id)) value.refuse(concat("is ", id, ": this id, or this piece, is there already"));
}

KDLIB_FUNC void read_piece_merges(const Json& list, PieceModel& model) {
  if (!list.is_array()) list.refuse("must be an array of pairs");
  std::uint32_t rank = 0;
  std::string whole;
  for (const Json& entry : list) {
    const auto [first, second] = read_merge(entry);
    whole.assign(first).append(second);
    const std::int32_t left = model.pieces.find(first), right = model.pieces.find(second),
                       joined = model.pieces.find(whole);
    if (left == Vocabulary::none) entry.refuse("has a left part that is no token of the vocabulary");
    if (right == Vocabulary::none) entry.refuse("has a right part that is no token of the vocabulary");
    if (joined == Vocabulary::none) entry.refuse("joins to something that is no token of the vocabulary");
    model.merges.add(left, right, {rank++, joined});
  }
}

KDLIB_FUNC void read_unigram(const Json& json, PieceModel& model) {
  model.kind = PieceModel::Kind::unigram;
  const Json vocab = json.at("vocab");
  if (!vocab.is_array() || vocab.size() == 0) vocab.refuse("must be an array of pieces with their scores");
  if (vocab.size() > static_cast<std::size_t>(Vocabulary::max_id)) vocab.refuse("has more pieces than kdlib reads");
  model.pieces = Vocabulary(vocab.size());
  std::int32_t id = 0;
  for (const Json& entry : vocab) {
    if (!entry.is_array() || entry.size() != 2) entry.refuse("must be a piece and its score");
    add_piece(entry, entry[0].as_string(), id++, model);
    const double score = entry[1].as_double();
    if (!std::isfinite(score) || std::abs(score) > 1e30) entry[1].refuse("is no score");
    model.scores.push_back(score);
  }
  const auto unknown = json.find_set("unk_id");
  if (!unknown) json.refuse("has no unk_id, which a text with an unknown character needs");
  model.unknown = read_token_id(*unknown);
  if (!model.pieces.has(model.unknown)) unknown->refuse("is the id of no piece");
  model.fuse_unknown = true;
}

KDLIB_FUNC void read_piece_bpe(const Json& json, PieceModel& model) {
  const Json vocab = json.at("vocab");
  if (!vocab.is_object() || vocab.size() == 0) vocab.refuse("must be an object that maps tokens to ids");
  model.pieces = Vocabulary(vocab.size());
  for (std::size_t i = 0; i < vocab.size(); ++i) add_piece(vocab[i], vocab.key(i), read_token_id(vocab[i]), model);
  read_piece_merges(json.at("merges"), model);
  model.fuse_unknown = json.bool_or("fuse_unk", false);
  model.ignore_merges = json.bool_or("ignore_merges", false);
  if (const auto unknown = json.find_set("unk_token")) {
    model.unknown = model.pieces.find(unknown->as_string());
    if (model.unknown == Vocabulary::none) unknown->refuse("is no token of model.vocab");
  }
}

KDLIB_FUNC void add_piece_bytes(TokenizerData& data) {
  const PieceModel& model = *data.pieces;
  for (std::int32_t id = 0; id < model.pieces.size(); ++id)
    if (model.pieces.has(id)) data.model.vocabulary.add_hidden(model.decoded(model.pieces.bytes(id)), id);
}

KDLIB_FUNC void read_piece_tokenizer(const Json& root, TokenizerData& data) {
  data.pieces = std::make_unique<PieceModel>();
  PieceModel& model = *data.pieces;
  const Json json = root.at("model");
  const std::string type = type_of(json);
  if (type != "BPE" && type != "Unigram")
    json.at("type").refuse(concat("is \"", type, "\"; kdlib reads BPE and Unigram"));
  for (const char* key : {"dropout", "continuing_subword_prefix", "end_of_word_suffix"}) require_unset(json, key);
  if (type == "Unigram") read_unigram(json, model);
  else read_piece_bpe(json, model);
  model.set_byte_tokens();
  model.byte_fallback = json.bool_or("byte_fallback", false);
  if (model.unknown == Vocabulary::none && !(model.byte_fallback && model.has_all_bytes()))
    json.refuse("has neither an unknown token nor a token for each byte, so some texts have no ids");
  read_piece_normalizer(root.find_set("normalizer").value_or(Json()), model.rules);
  read_piece_pre_tokenizer(root.find_set("pre_tokenizer").value_or(Json()), model.rules);
  read_piece_decoder(root.find_set("decoder").value_or(Json()), model);
  data.model.vocabulary = Vocabulary(static_cast<std::size_t>(model.pieces.size()));
  add_piece_bytes(data);
  const Json added_list = root.find_set("added_tokens").value_or(Json());
  read_added_tokens(added_list, data);
  std::unordered_map<std::string_view, std::size_t> contents;
  for (std::size_t i = 0; i < data.added.size(); ++i) {
    const AddedToken& token = data.added[i];
    const std::int32_t known = model.pieces.find(token.content);
    if (known == token.id) continue;
    if (known != Vocabulary::none)
      added_list[i].at("id").refuse(concat("is ", token.id, ", but model.vocab gives this token the id ", known));
    if (!data.model.vocabulary.add_hidden(token.content, token.id))
      added_list[i].at("id").refuse("is the id of another token");
    if (!contents.emplace(token.content, i).second) added_list[i].refuse("has the content of an earlier entry");
  }
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
