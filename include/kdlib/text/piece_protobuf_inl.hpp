// SPDX-License-Identifier: Apache-2.0
// Reader of byte_level_bpe.hpp for tokenizer.model, the sentencepiece library's own file: a ModelProto in the wire
// format of Protocol Buffers. Source: sentencepiece_model.proto.
#ifndef KDLIB_TEXT_PIECE_PROTOBUF_INL_HPP
#define KDLIB_TEXT_PIECE_PROTOBUF_INL_HPP

#include <algorithm>
#include <bit>
#include <cmath>

#include "kdlib/core/error.hpp"
#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/utf8.hpp"
#include "kdlib/text/piece_model.hpp"
#include "kdlib/text/piece_types_inl.hpp"
#include "kdlib/text/tokenizer_data.hpp"
#include "kdlib/text/tokenizer_reading.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// The fields of one message, one after the other.
class WireFields {
 public:
  WireFields(std::string_view message, std::size_t offset, const std::string& source)
      : message_(message), offset_(offset), source_(source) {}

  /// Goes to the next field; false at the end. FormatError with the byte for one that is cut off or of a kind that the
  /// format does not have.
  bool next() {
    if (at_ == message_.size()) return false;
    begin_ = at_;
    const std::uint64_t tag = varint();
    number = tag >> 3;
    switch (tag & 7) {
      case 0:
        kind_ = Kind::varint;
        value_ = varint();
        break;
      case 1:
        take(8);
        kind_ = Kind::other;
        break;
      case 2:
        kind_ = Kind::bytes;
        text_ = take(varint());
        break;
      case 5: {
        kind_ = Kind::fixed32;
        const std::string_view bytes = take(4);
        value_ = 0;
        for (std::size_t b = 4; b-- > 0;) value_ = value_ << 8 | static_cast<unsigned char>(bytes[b]);
        break;
      }
      default:
        refuse(concat("has the wire type ", tag & 7));
    }
    if (number == 0) refuse("has the number 0");
    return true;
  }

  std::uint64_t number = 0;  // of the field

  std::int64_t as_int() const { return need(Kind::varint), static_cast<std::int64_t>(value_); }
  bool as_bool() const { return need(Kind::varint), value_ != 0; }
  float as_float() const { return need(Kind::fixed32), std::bit_cast<float>(static_cast<std::uint32_t>(value_)); }
  std::string_view as_bytes() const { return need(Kind::bytes), text_; }
  WireFields as_message() const {
    const std::string_view text = as_bytes();
    return {text, offset_ + static_cast<std::size_t>(text.data() - message_.data()), source_};
  }

  [[noreturn]] void refuse(std::string_view problem) const {
    fail<FormatError>("[tokenizer] ", source_, ": field ", number, " at byte ", offset_ + begin_, " ", problem);
  }

 private:
  enum class Kind { varint, bytes, fixed32, other };
  void need(Kind kind) const {
    if (kind_ != kind) refuse("is of another type than the sentencepiece library writes");
  }
  std::uint64_t varint() {
    std::uint64_t out = 0;
    for (unsigned shift = 0; shift < 70; shift += 7) {
      if (at_ == message_.size()) refuse("is cut off");
      const auto byte = static_cast<unsigned char>(message_[at_++]);
      if (shift < 64) out |= std::uint64_t{byte & 127U} << shift;
      if (byte < 128) return out;
    }
    refuse("has a number of more than 64 bits");
  }
  std::string_view take(std::uint64_t bytes) {
    if (bytes > message_.size() - at_) refuse("is cut off");
    const std::string_view out = message_.substr(at_, static_cast<std::size_t>(bytes));
    at_ += out.size();
    return out;
  }

  std::string_view message_, text_;
  std::size_t offset_, at_ = 0, begin_ = 0;
  const std::string& source_;
  Kind kind_ = Kind::other;
  std::uint64_t value_ = 0;
};

/// What kdlib needs of the trainer's and the normaliser's settings, with the library's defaults.
struct PieceFileSettings {
  std::int64_t model_type = 1;  // 1 Unigram, 2 BPE, 3 words, 4 characters
  bool byte_fallback = false, space_as_suffix = false;
  std::int64_t unknown = 0, bos = 1, eos = 2, pad = -1;
  std::string_view charsmap{};
  bool dummy_prefix = true, remove_extra_spaces = true, escapes_spaces = true;
};

KDLIB_FUNC void read_trainer_fields(WireFields fields, PieceFileSettings& out) {
  while (fields.next()) switch (fields.number) {
      case 3:
        out.model_type = fields.as_int();
        break;
      case 24:
        out.space_as_suffix = fields.as_bool();
        break;
      case 35:
        out.byte_fallback = fields.as_bool();
        break;
      case 40:
        out.unknown = fields.as_int();
        break;
      case 41:
        out.bos = fields.as_int();
        break;
      case 42:
        out.eos = fields.as_int();
        break;
      case 43:
        out.pad = fields.as_int();
        break;
      default:
        break;
    }
}

KDLIB_FUNC void read_normalizer_fields(WireFields fields, PieceFileSettings& out) {
  while (fields.next()) switch (fields.number) {
      case 2:
        out.charsmap = fields.as_bytes();
        break;
      case 3:
        out.dummy_prefix = fields.as_bool();
        break;
      case 4:
        out.remove_extra_spaces = fields.as_bool();
        break;
      case 5:
        out.escapes_spaces = fields.as_bool();
        break;
      default:
        break;
    }
}

KDLIB_FUNC void read_piece_field(const WireFields& piece, TokenizerData& data) {
  PieceModel& model = *data.pieces;
  std::string_view text;
  float score = 0;
  std::int64_t type = 1;
  WireFields fields = piece.as_message();
  while (fields.next()) {
    if (fields.number == 1) text = fields.as_bytes();
    else if (fields.number == 2) score = fields.as_float();
    else if (fields.number == 3) type = fields.as_int();
  }
  const std::size_t id = model.scores.size();
  if (id >= static_cast<std::size_t>(Vocabulary::max_id)) piece.refuse("is one piece more than kdlib reads");
  if (!std::isfinite(score) || std::abs(score) > 1e30f) piece.refuse("has a score that is no number");
  model.scores.push_back(score);
  model.defined.push_back(type == 4);
  add_typed_piece(
      id, text, type == 4 ? 1 : type, [&](std::string_view problem) { piece.refuse(problem); }, data);
}

KDLIB_FUNC void check_piece_settings(const PieceFileSettings& s, const std::string& source) {
  const auto need = [&](bool holds, std::string_view what) {
    require<FormatError>(holds, "[tokenizer] ", source, ": ", what, "; kdlib does not read such files");
  };
  need(s.model_type == 1 || s.model_type == 2, concat("trainer_spec.model_type is ", s.model_type));
  need(!s.space_as_suffix, "trainer_spec.treat_whitespace_as_suffix is set");
  need(s.escapes_spaces, "normalizer_spec.escape_whitespaces is off");
}

/// Normaliser and decoder.
KDLIB_FUNC void apply_piece_settings(const PieceFileSettings& s, TokenizerData& data) {
  PieceModel& model = *data.pieces;
  model.kind = s.model_type == 1 ? PieceModel::Kind::unigram : PieceModel::Kind::merges;
  model.single_precision = true;
  model.byte_fallback = s.byte_fallback;
  model.fuse_unknown = true;
  model.decodes_metaspace = true;
  model.decodes_bytes = s.byte_fallback;
  model.strip = s.remove_extra_spaces ? DecoderStrip::one_space_each
                : s.dummy_prefix      ? DecoderStrip::one_space
                                      : DecoderStrip::none;
  const bool users = std::find(model.defined.begin(), model.defined.end(), true) != model.defined.end();
  if (s.charsmap.empty() && !s.remove_extra_spaces && !users) {  // steps that tokenizer.json has, too
    model.defined.clear();
    if (s.dummy_prefix) model.rules.steps.push_back({NormalizerStep::Kind::prepend, {}, " "});
    model.rules.steps.push_back({NormalizerStep::Kind::replace, " ", std::string(metaspace)});
    return;
  }
  auto rules = std::make_shared<SentencePieceRules>();
  rules->map = CharsMap(std::string(s.charsmap), data.source);
  rules->dummy_prefix = s.dummy_prefix;
  rules->remove_extra_spaces = s.remove_extra_spaces;
  for (std::int32_t id = 0; id < model.pieces.size(); ++id)
    if (model.is_defined(id)) rules->defined.add(model.pieces.bytes(id), id);
  rules->defined.finish();
  model.rules.library = std::move(rules);
}

KDLIB_FUNC void read_piece_protobuf(std::string_view file, TokenizerData& data) {
  data.pieces = std::make_unique<PieceModel>();
  PieceModel& model = *data.pieces;
  PieceFileSettings settings;
  WireFields fields(file, 0, data.source);
  while (fields.next()) {
    if (fields.number == 1) read_piece_field(fields, data);
    else if (fields.number == 2) read_trainer_fields(fields.as_message(), settings);
    else if (fields.number == 3) read_normalizer_fields(fields.as_message(), settings);
    else if (fields.number == 5) {
      PieceFileSettings denormalizer;
      read_normalizer_fields(fields.as_message(), denormalizer);
      if (!denormalizer.charsmap.empty()) fields.refuse("maps characters when text is decoded, which kdlib does not");
    }
  }
  require<FormatError>(!model.scores.empty() && model.pieces.size() > 0, "[tokenizer] ", data.source,
                       ": the file has no pieces; a tokenizer.model of sentencepiece is needed");
  check_piece_settings(settings, data.source);
  require<FormatError>(model.unknown != Vocabulary::none, "[tokenizer] ", data.source, ": no piece is of type unknown");
  const auto special = [&](std::int64_t id, std::optional<std::int32_t>& out) {
    const auto is = [&](const AddedToken& token) { return token.id == id && token.special; };
    if (std::any_of(data.added.begin(), data.added.end(), is)) out = static_cast<std::int32_t>(id);
  };
  special(settings.bos, data.bos);
  special(settings.eos, data.eos);
  special(settings.pad, data.pad);
  apply_piece_settings(settings, data);
  require<FormatError>(!settings.byte_fallback || model.has_all_bytes(), "[tokenizer] ", data.source,
                       ": trainer_spec.byte_fallback is set, but some bytes have no piece");
  add_piece_bytes(data);
  if (model.kind == PieceModel::Kind::merges) model.merge_by_scores();
}

/// What stands around a text: add_bos_token and add_eos_token of tokenizer_config.json, else bos in front, or eos
/// behind for T5's classes.
KDLIB_FUNC void read_piece_surroundings(const Json& config, TokenizerData& data) {
  const bool t5 = config.string_or("tokenizer_class", "").find("T5") != std::string::npos;
  const auto token = [&](bool wanted, const std::optional<std::int32_t>& id) {
    std::vector<TemplatePiece> out;
    if (wanted && id)
      out.push_back({TemplatePiece::Kind::tokens, std::string(data.model.vocabulary.bytes(*id)), {*id}});
    return out;
  };
  const std::vector<TemplatePiece> front = token(config.bool_or("add_bos_token", !t5), data.bos),
                                   behind = token(config.bool_or("add_eos_token", t5), data.eos);
  if (!front.empty() || !behind.empty()) data.post_processor = PostProcessor::around(front, behind);
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
