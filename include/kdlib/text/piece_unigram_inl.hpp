// SPDX-License-Identifier: Apache-2.0
// Bodies of piece_model.hpp: Unigram, the segmentation whose scores have the highest sum (Viterbi).
#ifndef KDLIB_TEXT_PIECE_UNIGRAM_INL_HPP
#define KDLIB_TEXT_PIECE_UNIGRAM_INL_HPP

#include <algorithm>

#include "kdlib/text/piece_model.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

KDLIB_FUNC ByteTrie::ByteTrie() : slots_(1024), ids_{Vocabulary::none} {}

KDLIB_FUNC std::size_t ByteTrie::slot(std::uint64_t key) const {
  const std::size_t mask = slots_.size() - 1;
  std::size_t at = static_cast<std::size_t>(key * 0x9E3779B97F4A7C15u >> 32) & mask;
  while (slots_[at].key != key && slots_[at].key != 0) at = (at + 1) & mask;
  return at;
}

KDLIB_FUNC void ByteTrie::grow() {
  std::vector<Slot> old(slots_.size() * 2);
  old.swap(slots_);
  for (const Slot& s : old)
    if (s.key != 0) slots_[slot(s.key)] = s;
}

KDLIB_FUNC void ByteTrie::add(std::string_view key, std::int32_t id) {
  std::uint32_t node = 0;
  for (const char c : key) {
    if ((used_ + 1) * 2 > slots_.size()) grow();
    const std::uint64_t edge = (std::uint64_t{node} << 8 | static_cast<unsigned char>(c)) + 1;
    Slot& s = slots_[slot(edge)];
    if (s.key == 0) {
      s = {edge, static_cast<std::uint32_t>(ids_.size())};
      ids_.push_back(Vocabulary::none);
      ++used_;
    }
    node = s.next;
  }
  ids_[node] = id;
}

KDLIB_FUNC std::uint32_t ByteTrie::step(std::uint32_t node, char byte) const {
  return slots_[slot((std::uint64_t{node} << 8 | static_cast<unsigned char>(byte)) + 1)].next;
}

KDLIB_FUNC void PieceModel::encode_unigram(std::string_view text, BpeScratch& scratch,
                                           std::vector<std::int32_t>& out) const {
  if (text.size() <= PieceCache::max_bytes) return encode_piece(text, false, scratch, out);
  best_path(text, scratch, scratch.ids);
  out.insert(out.end(), scratch.ids.begin(), scratch.ids.end());
}

/// The library's rules: sums grow from the left in double precision, of equal sums the piece that begins first wins,
/// and unknown characters side by side are looked up as one string.
KDLIB_FUNC void PieceModel::best_path(std::string_view text, BpeScratch& scratch,
                                      std::vector<std::int32_t>& out) const {
  std::vector<BpeScratch::PathNode>& path = scratch.path;
  path.assign(text.size() + 1, {});
  const auto offer = [&](std::size_t begin, std::size_t end, double sum, std::int32_t id) {
    BpeScratch::PathNode& node = path[end];
    if (node.id == Vocabulary::none || sum > node.sum) node = {sum, static_cast<std::uint32_t>(begin), id};
  };
  for (std::size_t begin = 0; begin < text.size();) {
    const std::size_t next = begin + character_bytes(text, begin);
    const double sum = path[begin].sum;
    bool single = false;
    std::uint32_t node = 0;
    for (std::size_t at = begin; at < text.size();) {
      node = trie_.step(node, text[at++]);
      if (node == ByteTrie::no_node) break;
      const std::int32_t id = trie_.id(node);
      if (id == Vocabulary::none) continue;
      offer(begin, at, path_scores_[static_cast<std::size_t>(id)] + sum, id);
      single = single || at == next;
    }
    if (!single) offer(begin, next, unknown_score_ + sum, unknown);
    begin = next;
  }
  out.clear();
  std::vector<std::int32_t> run;
  for (std::size_t end = text.size(); end > 0;) {  // backwards; `out` is turned round at the end
    std::size_t begin = path[end].begin;
    if (path[end].id != unknown) {
      out.push_back(path[end].id);
    } else {
      while (begin > 0 && path[begin].id == unknown) begin = path[begin].begin;
      const std::string_view bytes = text.substr(begin, end - begin);
      const std::int32_t whole = pieces.find(bytes);
      run.clear();
      if (whole != Vocabulary::none) run.push_back(whole);
      else append_unknown(bytes, false, run);
      out.insert(out.end(), run.rbegin(), run.rend());
    }
    end = begin;
  }
  std::reverse(out.begin(), out.end());
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
