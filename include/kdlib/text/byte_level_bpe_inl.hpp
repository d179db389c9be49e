// SPDX-License-Identifier: Apache-2.0
// Bodies of byte_level_bpe.hpp. What reads the files is in tokenizer_files_inl.hpp.
#ifndef KDLIB_TEXT_BYTE_LEVEL_BPE_INL_HPP
#define KDLIB_TEXT_BYTE_LEVEL_BPE_INL_HPP

#include <algorithm>
#include <mutex>
#include <utility>

#include "kdlib/core/error.hpp"
#include "kdlib/text/bpe_model.hpp"
#include "kdlib/text/byte_level_bpe.hpp"
#include "kdlib/text/nfc.hpp"
#include "kdlib/text/tokenizer_data.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

class ScratchLease {
 public:
  explicit ScratchLease(ScratchPool& pool) : pool_(pool) {
    {
      const std::lock_guard lock(pool_.mutex);
      if (!pool_.free.empty()) {
        scratch_ = std::move(pool_.free.back());
        pool_.free.pop_back();
      }
    }
    if (!scratch_) scratch_ = std::make_unique<BpeScratch>();
    scratch_->dropped_bytes = 0;
  }
  ~ScratchLease() {
    constexpr std::size_t keep = std::size_t{1} << 16;  // symbols: give back what one very long piece needed
    if (scratch_->ids.capacity() > keep) {
      scratch_->ids = {};
      scratch_->next = {};
      scratch_->before = {};
      scratch_->heap = {};
    }
    if (scratch_->text.capacity() > keep) {
      scratch_->text = {};
      scratch_->spare = {};
      scratch_->part = {};
      scratch_->path = {};
    }
    try {
      const std::lock_guard lock(pool_.mutex);
      pool_.free.push_back(std::move(scratch_));
    } catch (...) {  // no memory for the list: the next caller makes its own
    }
  }
  ScratchLease(const ScratchLease&) = delete;
  ScratchLease& operator=(const ScratchLease&) = delete;
  BpeScratch& operator*() { return *scratch_; }

 private:
  ScratchPool& pool_;
  std::unique_ptr<BpeScratch> scratch_;
};

/// One call of encode: where it writes and how it reads.
class EncodeRun {
 public:
  EncodeRun(const TokenizerData& data, SpecialTokens special, BpeScratch& scratch, std::vector<std::int32_t>& ids)
      : data_(data),
        special_(special == SpecialTokens::parse && data.splits_special ? SpecialTokens::special_text : special),
        scratch_(scratch),
        ids_(ids) {}

  void text(std::string_view text) {
    whole_ = text;
    cut(data_.raw_matcher, text, [this](std::string_view gap) { normalized(gap); });
  }

  /// Stretches of UTF-8 in pieces as they are, the bytes between them as one piece each.
  void bytes(std::string_view bytes) {
    while (!bytes.empty()) {
      const std::size_t valid = std::min(find_invalid_utf8(bytes), bytes.size());
      pieces(bytes.substr(0, valid));
      bytes.remove_prefix(valid);
      std::size_t invalid = 0;
      while (invalid < bytes.size() && utf8_step(bytes.substr(invalid)).kind != Utf8Step::Kind::character) ++invalid;
      if (invalid > 0) data_.model.encode_piece(bytes.substr(0, invalid), scratch_, ids_);
      bytes.remove_prefix(invalid);
    }
  }

 private:
  /// The same for a model over characters.
  void normalized_characters(std::string_view gap) {
    const PieceModel& model = *data_.pieces;
    const bool first = gap.data() == whole_.data();
    const std::string_view text = model.rules.normalize(gap, scratch_.text, scratch_.spare);
    cut(data_.normalized_matcher, text, [&](std::string_view part) {
      const auto one = [&](std::string_view words) {
        const bool at_begin = first && words.data() == text.data();
        model.rules.add_metaspace(at_begin, words, scratch_.part);
        model.encode(words, scratch_, ids_);
      };
      if (model.rules.splits_space) for_words(part, one);
      else one(part);
    });
  }

  void normalized(std::string_view gap) {
    if (data_.pieces != nullptr) return normalized_characters(gap);
    std::string composed;
    if (data_.nfc && !is_surely_nfc(gap)) {
      composed = nfc(gap);
      gap = composed;
    }
    cut(data_.normalized_matcher, gap, [this](std::string_view part) { pieces(part); });
  }

  void pieces(std::string_view text) {
    const Scanner scanner(text);
    for (std::size_t at = 0; at < text.size();) {
      const std::size_t end = scan_piece(data_.pre_tokenizer, scanner, at);
      data_.model.encode_piece(text.substr(at, end - at), scratch_, ids_);
      at = end;
    }
  }

  /// Calls `gap` for the text between added tokens and appends the tokens' ids.
  template <class Gap>
  void cut(const AddedTokenMatcher& matcher, std::string_view text, Gap&& gap) {
    std::size_t done = 0;
    if (special_ != SpecialTokens::plain && !matcher.empty()) {
      for (std::size_t from = 0; from < text.size();) {
        const AddedTokenMatcher::Match match = matcher.find(text, from);
        if (match.token == nullptr) break;
        from = match.end;
        if (special_ == SpecialTokens::special_text && match.token->special) continue;
        if (match.token->single_word && !stands_alone(text, match)) continue;
        const std::size_t begin = match.token->lstrip ? strip_before(text, match.begin, done) : match.begin;
        if (begin > done) gap(text.substr(done, begin - done));
        ids_.push_back(match.token->id);
        done = match.token->rstrip ? strip_behind(text, match.end) : match.end;
      }
    }
    if (done < text.size()) gap(text.substr(done));
  }

  static std::size_t character_before(std::string_view text, std::size_t at) {
    do --at;
    while ((static_cast<unsigned char>(text[at]) & 0xC0) == 0x80);
    return at;
  }

  static std::size_t strip_before(std::string_view text, std::size_t at, std::size_t lowest) {
    while (at > lowest) {
      const std::size_t begin = character_before(text, at);
      std::size_t behind = begin;
      if (unicode_class(next_code_point(text.data(), behind)) != UnicodeClass::space) break;
      at = begin;
    }
    return at;
  }

  static std::size_t strip_behind(std::string_view text, std::size_t at) {
    while (at < text.size()) {
      std::size_t behind = at;
      if (unicode_class(next_code_point(text.data(), behind)) != UnicodeClass::space) break;
      at = behind;
    }
    return at;
  }

  static bool is_word(std::string_view text, std::size_t at) {
    const char32_t c = next_code_point(text.data(), at);
    const UnicodeClass kind = unicode_class(c);
    return c == U'_' || (kind != UnicodeClass::other && kind != UnicodeClass::space);
  }

  static bool stands_alone(std::string_view text, const AddedTokenMatcher::Match& match) {
    return (match.begin == 0 || !is_word(text, character_before(text, match.begin))) &&
           (match.end == text.size() || !is_word(text, match.end));
  }

  const TokenizerData& data_;
  std::string_view whole_;
  SpecialTokens special_;
  BpeScratch& scratch_;
  std::vector<std::int32_t>& ids_;
};

/// Appends the certain part of `held` + `bytes` to `out` and leaves the rest, at most three bytes, in `held`.
KDLIB_FUNC void stream_utf8(std::string& held, std::string_view bytes, std::string& out) {
  held.append(bytes);
  std::string_view rest = held;
  while (!rest.empty()) {
    const Utf8Step step = utf8_step(rest);
    if (step.kind == Utf8Step::Kind::incomplete) break;
    if (step.kind == Utf8Step::Kind::character) {
      out.append(rest.substr(0, step.length));
    } else {
      out.append("\xEF\xBF\xBD");
    }
    rest.remove_prefix(step.length);
  }
  held.erase(0, held.size() - rest.size());
}

}  // namespace detail

KDLIB_FUNC Tokenizer::Tokenizer(std::shared_ptr<const detail::TokenizerData> data) : data_(std::move(data)) {}

KDLIB_FUNC std::vector<std::int32_t> Tokenizer::encode(std::string_view text, SpecialTokens special) const {
  std::vector<std::int32_t> ids;
  ids.reserve(text.size() / 4 + 1);
  encode_append(text, ids, {special, false});
  return ids;
}

KDLIB_FUNC std::uint64_t Tokenizer::encode_append(std::string_view text, std::vector<std::int32_t>& ids,
                                                  EncodeOptions options) const {
  const std::size_t bad = find_invalid_utf8(text);
  require<InputError>(bad == std::string_view::npos, "[tokenizer] ", data_->source,
                      ": the text to encode is not UTF-8 at byte ", bad, " of ", text.size(),
                      "; replace_invalid_utf8() puts U+FFFD there");
  const std::size_t before = ids.size();
  detail::ScratchLease scratch(data_->scratch);
  detail::EncodeRun run(*data_, options.special, *scratch, ids);
  const std::vector<TemplatePiece>& pieces = data_->post_processor.single;
  if (!options.add_special_tokens || pieces.empty()) {
    run.text(text);
  } else {
    for (const TemplatePiece& piece : pieces) {
      ids.insert(ids.end(), piece.ids.begin(), piece.ids.end());
      if (piece.kind == TemplatePiece::Kind::text) run.text(text);
    }
  }
  const std::uint64_t dropped = (*scratch).dropped_bytes;
  if (options.strict && dropped > 0) {
    ids.resize(before);
    fail<InputError>("[tokenizer] ", data_->source, ": ", dropped, " of ", text.size(),
                     " bytes of the text have no token in this vocabulary");
  }
  return dropped;
}

namespace detail {

/// Text without U+2581 goes through the model, other bytes are written one by one.
KDLIB_FUNC void encode_character_bytes(const PieceModel& model, std::string_view bytes, BpeScratch& scratch,
                                       std::vector<std::int32_t>& ids) {
  if (model.strip != DecoderStrip::none) {  // decoding takes this one away
    const std::int32_t space = model.pieces.find(metaspace);
    if (space != Vocabulary::none) ids.push_back(space);
  }
  while (!bytes.empty()) {
    const std::size_t valid = std::min({find_invalid_utf8(bytes), bytes.find(metaspace), bytes.size()});
    scratch.part.clear();
    append_replaced(bytes.substr(0, valid), " ", metaspace, scratch.part);
    model.encode(scratch.part, scratch, ids);
    bytes.remove_prefix(valid);
    if (bytes.empty()) break;
    model.append_bytes(bytes.substr(0, 1), ids);
    bytes.remove_prefix(1);
  }
}

}  // namespace detail

KDLIB_FUNC std::vector<std::int32_t> Tokenizer::encode_bytes(std::string_view bytes) const {
  if (data_->pieces != nullptr) {
    std::vector<std::int32_t> ids;
    detail::ScratchLease scratch(data_->scratch);
    detail::encode_character_bytes(*data_->pieces, bytes, *scratch, ids);
    require<InputError>(decode_bytes(ids) == bytes, "[tokenizer] ", data_->source, ": these ", bytes.size(),
                        " bytes cannot be written with this vocabulary");
    return ids;
  }
  for (std::size_t i = 0; i < bytes.size(); ++i)
    require<InputError>(data_->model.byte_token[static_cast<unsigned char>(bytes[i])] != detail::Vocabulary::none,
                        "[tokenizer] ", data_->source, ": byte ",
                        static_cast<int>(static_cast<unsigned char>(bytes[i])), " at offset ", i,
                        " has no token in this vocabulary");
  std::vector<std::int32_t> ids;
  ids.reserve(bytes.size() / 4 + 1);
  detail::ScratchLease scratch(data_->scratch);
  detail::EncodeRun(*data_, SpecialTokens::plain, *scratch, ids).bytes(bytes);
  return ids;
}

KDLIB_FUNC std::string Tokenizer::decode_bytes(std::span<const std::int32_t> ids, bool skip_special) const {
  std::string out;
  bool begun = false;
  for (const std::int32_t id : ids)
    if (!skip_special || !is_special(id)) data_->append_decoded(id, begun, out);
  return out;
}

KDLIB_FUNC std::string Tokenizer::decode(std::span<const std::int32_t> ids, bool skip_special) const {
  return replace_invalid_utf8(decode_bytes(ids, skip_special));
}

KDLIB_FUNC void Tokenizer::check_ids(std::span<const std::int32_t> ids) const {
  for (std::size_t i = 0; i < ids.size(); ++i)
    require<InputError>(has_token(ids[i]), "[tokenizer] ", data_->source, ": id ", ids[i], " at position ", i,
                        " has no token; ids end at ", vocab_size() - 1);
}

KDLIB_FUNC std::int32_t Tokenizer::vocab_size() const { return data_->model.vocabulary.size(); }
KDLIB_FUNC std::string_view Tokenizer::token_bytes(std::int32_t id) const { return data_->model.vocabulary.bytes(id); }
KDLIB_FUNC bool Tokenizer::has_token(std::int32_t id) const { return data_->model.vocabulary.has(id); }
KDLIB_FUNC bool Tokenizer::is_special(std::int32_t id) const {
  return id >= 0 && static_cast<std::size_t>(id) < data_->special.size() &&
         data_->special[static_cast<std::size_t>(id)];
}

KDLIB_FUNC std::optional<std::int32_t> Tokenizer::token_to_id(std::string_view token) const {
  for (const AddedToken& added : data_->added)
    if (added.content == token) return added.id;
  std::string piece;
  if (data_->pieces != nullptr) {  // pieces are known under U+2581
    detail::append_replaced(token, " ", detail::metaspace, piece);
    const std::int32_t known = data_->pieces->pieces.find(piece);
    return known == detail::Vocabulary::none ? std::nullopt : std::optional(known);
  }
  const std::int32_t id = data_->model.vocabulary.find(token);
  return id == detail::Vocabulary::none ? std::nullopt : std::optional(id);
}

KDLIB_FUNC const std::vector<AddedToken>& Tokenizer::added_tokens() const { return data_->added; }
KDLIB_FUNC std::optional<std::int32_t> Tokenizer::bos_id() const { return data_->bos; }
KDLIB_FUNC std::optional<std::int32_t> Tokenizer::eos_id() const { return data_->eos; }
KDLIB_FUNC std::optional<std::int32_t> Tokenizer::pad_id() const { return data_->pad; }
KDLIB_FUNC const std::vector<std::int32_t>& Tokenizer::stop_ids() const { return data_->stop; }
KDLIB_FUNC const PostProcessor& Tokenizer::post_processor() const { return data_->post_processor; }
KDLIB_FUNC std::vector<std::int32_t> Tokenizer::prefix_ids() const { return data_->post_processor.prefix_ids(); }
KDLIB_FUNC std::vector<std::int32_t> Tokenizer::suffix_ids() const { return data_->post_processor.suffix_ids(); }
KDLIB_FUNC const std::string& Tokenizer::chat_template() const { return data_->chat_template; }
KDLIB_FUNC const std::vector<std::pair<std::string, std::string>>& Tokenizer::named_chat_templates() const {
  return data_->named_chat_templates;
}
KDLIB_FUNC PreTokenizer Tokenizer::pre_tokenizer() const { return data_->pre_tokenizer; }
KDLIB_FUNC bool Tokenizer::normalizes_nfc() const { return data_->nfc; }
KDLIB_FUNC bool Tokenizer::ignores_merges() const {
  return data_->pieces != nullptr ? data_->pieces->ignore_merges : data_->model.ignore_merges;
}
KDLIB_FUNC TokenizerModel Tokenizer::model() const {
  if (data_->pieces == nullptr) return TokenizerModel::byte_level_bpe;
  return data_->pieces->kind == detail::PieceModel::Kind::unigram ? TokenizerModel::unigram
                                                                  : TokenizerModel::character_bpe;
}
KDLIB_FUNC std::vector<std::pair<std::int32_t, std::int32_t>> Tokenizer::merges() const {
  return data_->pieces != nullptr ? data_->pieces->merges.pairs() : data_->model.merges.pairs();
}
KDLIB_FUNC std::optional<std::int32_t> Tokenizer::unknown_id() const {
  if (data_->pieces != nullptr)
    return data_->pieces->unknown == detail::Vocabulary::none ? std::nullopt : std::optional(data_->pieces->unknown);
  for (int b = 0; b < 256; ++b) {
    const char byte = static_cast<char>(b);
    const std::int32_t id = data_->model.byte_token[b];
    if (id != detail::Vocabulary::none && data_->model.vocabulary.find(std::string_view(&byte, 1)) != id) return id;
  }
  return std::nullopt;
}
KDLIB_FUNC std::size_t Tokenizer::merge_count() const { return merges().size(); }
KDLIB_FUNC const std::string& Tokenizer::source() const { return data_->source; }
KDLIB_FUNC std::uint64_t Tokenizer::content_hash() const { return data_->content_hash; }

KDLIB_FUNC std::string StreamDecoder::push(std::int32_t id) {
  std::string out;
  if (skip_special_ && tokenizer_.is_special(id)) return out;
  std::string bytes;
  tokenizer_.data_->append_decoded(id, begun_, bytes);
  detail::stream_utf8(held_, bytes, out);
  return out;
}

KDLIB_FUNC std::string StreamDecoder::flush() {
  std::string out = held_.empty() ? "" : "\xEF\xBF\xBD";
  held_.clear();
  begun_ = false;
  return out;
}

KDLIB_NAMESPACE_END

#include "kdlib/text/tokenizer_files_inl.hpp"

#endif
