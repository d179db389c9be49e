// SPDX-License-Identifier: Apache-2.0
// Bodies of piece_model.hpp: Unigram, the segmentation whose scores have the highest sum (Viterbi).
#ifndef KDLIB_TEXT_PIECE_UNIGRAM_INL_HPP
#define KDLIB_TEXT_PIECE_UNIGRAM_INL_HPP

#include <algorithm>
#include <cmath>
#include <limits>

#include "kdlib/text/piece_model.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

KDLIB_FUNC void PieceModel::finish_unigram() {
  double least = std::numeric_limits<double>::infinity();
  for (std::int32_t id = 0; id < pieces.size(); ++id) {
    const double score = static_cast<std::size_t>(id) < scores.size() ? scores[static_cast<std::size_t>(id)] : 0.0;
    path_scores_.push_back(single_precision ? score : library_number(score));
    if (!pieces.has(id)) continue;
    trie_.add(pieces.bytes(id), id);
    if (!is_defined(id)) least = std::min(least, path_scores_.back());
  }
  trie_.finish();
  if (!std::isfinite(least)) least = 0;  // all pieces are defined by users
  unknown_score_ = single_precision ? static_cast<double>(static_cast<float>(least) - 10.0f) : least - 10;
  // sentencepiece 0.2.3 takes a tenth for each byte behind the first, whatever score the file has.
  for (std::int32_t id = 0; id < pieces.size(); ++id)
    if (is_defined(id))
      path_scores_[static_cast<std::size_t>(id)] =
          static_cast<double>(0.1f * static_cast<float>(pieces.bytes(id).size() - 1));
}

KDLIB_FUNC void PieceModel::encode_unigram(std::string_view text, BpeScratch& scratch,
                                           std::vector<std::int32_t>& out) const {
  if (text.size() <= PieceCache::max_bytes) return encode_piece(text, false, scratch, out);
  best_path(text, scratch, scratch.ids);
  out.insert(out.end(), scratch.ids.begin(), scratch.ids.end());
}

/// The tokenizers library's rules: sums grow from the left in double precision, of equal sums the piece that begins
/// first wins, and unknown characters side by side are looked up as one string. sentencepiece keeps its sums in single
/// precision and does not look up.
KDLIB_FUNC void PieceModel::best_path(std::string_view text, BpeScratch& scratch,
                                      std::vector<std::int32_t>& out) const {
  std::vector<BpeScratch::PathNode>& path = scratch.path;
  path.assign(text.size() + 1, {});
  const auto offer = [&](std::size_t begin, std::size_t end, double sum, std::int32_t id) {
    BpeScratch::PathNode& node = path[end];
    if (single_precision) sum = static_cast<double>(static_cast<float>(sum));
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
      const std::int32_t whole = single_precision ? Vocabulary::none : pieces.find(bytes);
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
