// SPDX-License-Identifier: Apache-2.0
// Bodies of piece_model.hpp: byte-pair encoding and what both models share. Unigram is in piece_unigram_inl.hpp.
#ifndef KDLIB_TEXT_PIECE_MODEL_INL_HPP
#define KDLIB_TEXT_PIECE_MODEL_INL_HPP

#include <algorithm>
#include <charconv>
#include <cmath>
#include <numeric>

#include "kdlib/core/error.hpp"
#include "kdlib/text/piece_model.hpp"
#include "kdlib/text/unicode.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// A number of a JSON file as the tokenizers library reads it: its digits are rounded to a double and then divided by a
/// power of ten, which can give the neighbour of the nearest double. Which of two equal sums of scores is higher
/// depends on it. `value` must have been written with the fewest digits that give it back.
KDLIB_FUNC double library_number(double value) {
  char text[40];
  const char* const end = std::to_chars(text, text + sizeof text, std::abs(value), std::chars_format::scientific).ptr;
  std::uint64_t digits = 0;
  int behind = 0, exponent = 0;
  const char* at = text;
  for (bool point = false; at != end && *at != 'e'; ++at) {
    if (*at == '.') {
      point = true;
      continue;
    }
    digits = digits * 10 + static_cast<std::uint64_t>(*at - '0');
    behind += point ? 1 : 0;
  }
  if (at != end) std::from_chars(at[1] == '+' ? at + 2 : at + 1, end, exponent);
  exponent -= behind;
  if (exponent < -300 || exponent > 300) return value;
  const double power = std::pow(10.0, std::abs(exponent)), number = static_cast<double>(digits);
  return std::copysign(exponent < 0 ? number / power : number * power, value);
}

KDLIB_FUNC PieceModel::PieceModel() { std::fill(std::begin(byte_token), std::end(byte_token), Vocabulary::none); }

KDLIB_FUNC std::int32_t PieceModel::symbol(std::string_view piece) const {
  const std::int32_t id = pieces.find(piece);
  if (id != Vocabulary::none) return id;
  const std::int32_t character = characters_.find(piece);
  return character == Vocabulary::none ? Vocabulary::none : first_character + character;
}

KDLIB_FUNC std::string_view PieceModel::surface(std::int32_t symbol) const {
  return symbol >= first_character ? characters_.bytes(symbol - first_character) : pieces.bytes(symbol);
}

KDLIB_FUNC std::size_t PieceModel::join_slot(char32_t left, char32_t right) {
  const std::uint64_t key = std::uint64_t{left} << 32 | right;
  return static_cast<std::size_t>((key * 0x9E3779B97F4A7C15u ^ key >> 29) * 0xD6E8FEB86659FD93u >> (64 - join_bits));
}

KDLIB_FUNC bool PieceModel::joins(char32_t left, char32_t right) const {
  const std::size_t slot = join_slot(left, right);
  return (joined_[slot >> 6] >> (slot & 63) & 1) != 0;
}

KDLIB_FUNC bool PieceModel::has_all_bytes() const {
  return std::find(std::begin(byte_token), std::end(byte_token), Vocabulary::none) == std::end(byte_token);
}

KDLIB_FUNC void PieceModel::set_byte_tokens() {
  for (int b = 0; b < 256; ++b) {
    constexpr char digits[] = "0123456789ABCDEF";
    const char piece[] = {'<', '0', 'x', digits[b >> 4], digits[b & 15], '>'};
    byte_token[b] = pieces.find(std::string_view(piece, sizeof piece));
  }
}

KDLIB_FUNC void PieceModel::merge_by_scores() {
  std::vector<std::int32_t> order;
  for (std::int32_t id = 0; id < pieces.size(); ++id)
    if (pieces.has(id)) order.push_back(id);
  for (const std::int32_t id : order) {
    const std::string_view piece = pieces.bytes(id);
    if (piece.size() == character_bytes(piece, 0)) continue;
    for (std::size_t at = 0; at < piece.size(); at += character_bytes(piece, at)) {
      const std::string_view character = piece.substr(at, character_bytes(piece, at));
      if (pieces.find(character) == Vocabulary::none) characters_.add(character, characters_.size());
    }
  }
  const auto score = [&](std::int32_t id) { return scores[static_cast<std::size_t>(id)]; };
  std::stable_sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) { return score(a) > score(b); });
  std::uint32_t rank = 0;
  for (std::size_t i = 0; i < order.size(); ++i) {
    if (i > 0 && score(order[i]) < score(order[i - 1])) ++rank;
    const std::string_view piece = pieces.bytes(order[i]);
    for (std::size_t at = character_bytes(piece, 0); at < piece.size(); at += character_bytes(piece, at)) {
      const std::int32_t left = symbol(piece.substr(0, at)), right = symbol(piece.substr(at));
      if (left != Vocabulary::none && right != Vocabulary::none) merges.add(left, right, {rank, order[i]});
    }
  }
}

KDLIB_FUNC void PieceModel::finish() {
  if (kind == Kind::unigram) return finish_unigram();
  joined_.assign(std::size_t{1} << (join_bits - 6), 0);
  const auto is_fallback = [&](std::int32_t id) {
    return id == unknown || std::find(std::begin(byte_token), std::end(byte_token), id) != std::end(byte_token);
  };
  for (const auto& [left, right] : merges.pairs()) {
    // A fallback token is no character of the text, so the characters beside it say nothing about its merges.
    if (is_fallback(left) || is_fallback(right)) return joined_.clear();
    const std::string_view before = surface(left), behind = surface(right);
    std::size_t last = before.size() - 1, first = 0;
    while ((static_cast<unsigned char>(before[last]) & 0xC0) == 0x80) --last;
    const char32_t a = next_code_point(before.data(), last);
    const std::size_t slot = join_slot(a, next_code_point(behind.data(), first));
    joined_[slot >> 6] |= std::uint64_t{1} << (slot & 63);
  }
}

KDLIB_FUNC bool PieceModel::append_bytes(std::string_view bytes, std::vector<std::int32_t>& out) const {
  const std::size_t size = out.size();
  for (const char c : bytes) {
    const std::int32_t id = byte_token[static_cast<unsigned char>(c)];
    if (id == Vocabulary::none) {
      out.resize(size);
      return false;
    }
    out.push_back(id);
  }
  return true;
}

KDLIB_FUNC void PieceModel::append_unknown(std::string_view bytes, bool may_fuse,
                                           std::vector<std::int32_t>& out) const {
  if (byte_fallback && append_bytes(bytes, out)) return;
  if (fuse_unknown && may_fuse && !out.empty() && out.back() == unknown) return;
  out.push_back(unknown);
}

KDLIB_FUNC void PieceModel::merge_piece(std::string_view piece, BpeScratch& scratch) const {
  std::vector<std::int32_t>& ids = scratch.ids;
  ids.clear();
  for (std::size_t at = 0; at < piece.size();) {
    const std::string_view character = piece.substr(at, character_bytes(piece, at));
    const std::int32_t id = symbol(character);
    if (id != Vocabulary::none) ids.push_back(id);
    else append_unknown(character, true, ids);
    at += character.size();
  }
  if (ids.size() <= 64) merge_short(merges, ids);
  else merge_long(merges, scratch);
  if (characters_.size() == 0 ||
      std::none_of(ids.begin(), ids.end(), [](std::int32_t id) { return id >= first_character; }))
    return;
  std::vector<std::int32_t> tokens;
  for (const std::int32_t id : ids) {
    if (id < first_character) tokens.push_back(id);
    else append_unknown(surface(id), true, tokens);
  }
  ids = std::move(tokens);
}

KDLIB_FUNC void PieceModel::encode_piece(std::string_view piece, bool may_fuse, BpeScratch& scratch,
                                         std::vector<std::int32_t>& out) const {
  const bool cacheable = piece.size() <= PieceCache::max_bytes;
  const std::uint64_t hash = cacheable ? hash_bytes(piece) : 0;
  const PieceCache::Entry* hit = cacheable ? scratch.cache.find(piece, hash) : nullptr;
  if (hit == nullptr) {
    if (kind == Kind::unigram) best_path(piece, scratch, scratch.ids);
    else merge_piece(piece, scratch);
    if (cacheable) scratch.cache.insert(piece, hash, scratch.ids.data(), scratch.ids.size());
  }
  const std::int32_t* ids = hit != nullptr ? hit->ids : scratch.ids.data();
  std::size_t count = hit != nullptr ? hit->count : scratch.ids.size();
  if (may_fuse && fuse_unknown && count > 0 && ids[0] == unknown && !out.empty() && out.back() == unknown)
    ++ids, --count;
  out.insert(out.end(), ids, ids + count);
}

KDLIB_FUNC void PieceModel::encode_merges(std::string_view text, BpeScratch& scratch,
                                          std::vector<std::int32_t>& out) const {
  if (ignore_merges) {
    const std::int32_t whole = pieces.find(text);
    if (whole != Vocabulary::none) return out.push_back(whole);
  }
  // No merge reaches over a pair of characters that no merge joins, so each part between is merged by itself.
  std::size_t begin = 0;
  char32_t before = 0;
  for (std::size_t at = 0; at < text.size() && !joined_.empty();) {
    std::size_t behind = at;
    const char32_t c = next_code_point(text.data(), behind);
    if (at > begin && !joins(before, c)) {
      encode_piece(text.substr(begin, at - begin), begin > 0, scratch, out);
      begin = at;
    }
    before = c;
    at = behind;
  }
  encode_piece(text.substr(begin), begin > 0, scratch, out);
}

KDLIB_FUNC void PieceModel::encode(std::string_view text, BpeScratch& scratch, std::vector<std::int32_t>& out) const {
  const auto one = [&](std::string_view piece) {
    if (kind == Kind::unigram) encode_unigram(piece, scratch, out);
    else encode_merges(piece, scratch, out);
  };
  if (text.empty()) return;
  if (kind == Kind::merges && rules.library != nullptr && !rules.library->defined.empty()) {
    std::size_t begin = 0;
    for (std::size_t at = 0; at < text.size();) {
      std::int32_t id = 0;
      const std::size_t length = rules.library->defined.longest(text.substr(at), id);
      if (length > 0) {
        if (at > begin) one(text.substr(begin, at - begin));
        out.push_back(id);
        begin = at + length;
      }
      at += length > 0 ? length : character_bytes(text, at);
    }
    if (begin < text.size()) one(text.substr(begin));
    return;
  }
  if (!rules.split) return one(text);
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t end = std::min(text.find(detail::metaspace, begin + 1), text.size());
    one(text.substr(begin, end - begin));
    begin = end;
  }
}

KDLIB_FUNC std::string PieceModel::decoded(std::string_view piece) const {
  if (decodes_bytes && piece.size() == 6) {
    const std::int32_t id = pieces.find(piece);
    const auto at = std::find(std::begin(byte_token), std::end(byte_token), id);
    if (id != Vocabulary::none && at != std::end(byte_token))
      return std::string(1, static_cast<char>(static_cast<unsigned char>(at - std::begin(byte_token))));
  }
  std::string out;
  if (decodes_metaspace) append_replaced(piece, detail::metaspace, " ", out);
  else out = piece;
  return out;
}

}  // namespace detail
KDLIB_NAMESPACE_END

#include "kdlib/text/piece_unigram_inl.hpp"

#endif
