// SPDX-License-Identifier: Apache-2.0
// Bodies of bpe_model.hpp.
#ifndef KDLIB_TEXT_BPE_MODEL_INL_HPP
#define KDLIB_TEXT_BPE_MODEL_INL_HPP

#include <algorithm>
#include <cstring>
#include <utility>

#include "kdlib/text/bpe_model.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

KDLIB_FUNC void MergeTable::reserve(std::size_t merges) {
  std::size_t size = 64;
  while (size * 2 < merges * 3) size *= 2;  // at most two thirds full
  std::vector<Slot> old(size);
  old.swap(slots_);
  for (const Slot& s : old)
    if (s.key != empty) slots_[slot(s.key)] = s;
}

KDLIB_FUNC std::size_t MergeTable::slot(std::uint64_t key) const {
  const std::size_t mask = slots_.size() - 1;
  std::size_t at = (key * 0x9E3779B97F4A7C15u ^ key >> 17) * 0xD6E8FEB86659FD93u >> 32 & mask;
  while (slots_[at].key != key && slots_[at].key != empty) at = (at + 1) & mask;
  return at;
}

KDLIB_FUNC void MergeTable::add(std::int32_t left, std::int32_t right, Merge merge) {
  if ((used_ + 1) * 3 > slots_.size() * 2) reserve(used_ * 2 + 64);
  Slot& s = slots_[slot(key_of(left, right))];
  if (s.key == empty) ++used_;
  s = {key_of(left, right), merge};
}

KDLIB_FUNC Merge MergeTable::find(std::int32_t left, std::int32_t right) const {
  return slots_.empty() ? Merge{no_rank, 0} : slots_[slot(key_of(left, right))].merge;
}

KDLIB_FUNC std::vector<std::pair<std::int32_t, std::int32_t>> MergeTable::pairs() const {
  std::vector<Slot> used;
  for (const Slot& s : slots_)
    if (s.key != empty) used.push_back(s);
  std::sort(used.begin(), used.end(), [](const Slot& a, const Slot& b) { return a.merge.rank < b.merge.rank; });
  std::vector<std::pair<std::int32_t, std::int32_t>> list;
  list.reserve(used.size());
  for (const Slot& s : used)
    list.emplace_back(static_cast<std::int32_t>(s.key >> 32), static_cast<std::int32_t>(s.key & 0xFFFFFFFFu));
  return list;
}

KDLIB_FUNC ShortPieces::ShortPieces() : pairs_(std::size_t{1} << 14) {}

/// No byte behind the piece is read: words that overlap, or single bytes, hold all of it.
KDLIB_FUNC ShortPieces::Key ShortPieces::key_of(std::string_view piece) {
  const std::size_t n = piece.size();
  const char* at = piece.data();
  Key key;
  key.length = static_cast<std::uint32_t>(n);
  if (n >= 8) {
    std::memcpy(&key.low, at, 8);
    std::memcpy(&key.high, at + n - 8, 8);
  } else if (n >= 4) {
    std::uint32_t first = 0, last = 0;
    std::memcpy(&first, at, 4);
    std::memcpy(&last, at + n - 4, 4);
    key.low = std::uint64_t{last} << 32 | first;
  } else if (n > 0) {
    const auto byte = [at](std::size_t i) { return std::uint64_t{static_cast<unsigned char>(at[i])}; };
    key.low = byte(0) | byte(n / 2) << 8 | byte(n - 1) << 16;
  }
  return key;
}

KDLIB_FUNC ShortPieces::Pair& ShortPieces::pair_of(const Key& key) {
  std::uint64_t h = (key.low ^ key.length) * 0x9E3779B97F4A7C15u;
  h = (h ^ h >> 29 ^ key.high) * 0xD6E8FEB86659FD93u;
  return pairs_[h >> 40 & (pairs_.size() - 1)];
}

KDLIB_FUNC const ShortPieces::Entry* ShortPieces::find(const Key& key) {
  Pair& pair = pair_of(key);
  const auto is_key = [&key](const Entry& e) {
    return e.low == key.low && e.high == key.high && e.length == key.length;
  };
  if (!is_key(pair.way[0])) {
    if (!is_key(pair.way[1])) return nullptr;
    std::swap(pair.way[0], pair.way[1]);
  }
  return &pair.way[0];
}

KDLIB_FUNC void ShortPieces::insert(const Key& key, const std::int32_t* ids, std::size_t count) {
  Pair& pair = pair_of(key);
  pair.way[1] = pair.way[0];
  Entry& entry = pair.way[0];
  entry = {key.low, key.high, static_cast<std::uint16_t>(key.length), static_cast<std::uint16_t>(count), {}};
  std::copy(ids, ids + count, entry.ids);
}

KDLIB_FUNC PieceCache::PieceCache() : entries_(std::size_t{1} << 15) {}

KDLIB_FUNC const PieceCache::Entry* PieceCache::find(std::string_view piece, std::uint64_t hash) {
  Entry* pair = &entries_[hash & (entries_.size() - 2)];
  for (int way = 0; way < 2; ++way)
    if (pair[way].length == piece.size() && std::memcmp(pair[way].key, piece.data(), piece.size()) == 0)
      return &pair[way];
  return nullptr;
}

KDLIB_FUNC void PieceCache::insert(std::string_view piece, std::uint64_t hash, const std::int32_t* ids,
                                   std::size_t count) {
  if (piece.size() > max_bytes || count > max_ids) return;
  Entry* pair = &entries_[hash & (entries_.size() - 2)];
  pair[1] = pair[0];
  std::memcpy(pair[0].key, piece.data(), piece.size());
  pair[0].length = static_cast<std::uint8_t>(piece.size());
  std::copy(ids, ids + count, pair[0].ids);
  pair[0].count = static_cast<std::uint32_t>(count);
}

KDLIB_FUNC void BpeModel::set_byte_tokens() {
  for (int b = 0; b < 256; ++b) {
    const char byte = static_cast<char>(static_cast<unsigned char>(b));
    byte_token[b] = vocabulary.find(std::string_view(&byte, 1));
  }
}

KDLIB_FUNC void BpeModel::encode_piece(std::string_view piece, BpeScratch& scratch,
                                       std::vector<std::int32_t>& out) const {
  const bool is_short = piece.size() <= ShortPieces::max_bytes, cacheable = piece.size() <= PieceCache::max_bytes;
  const ShortPieces::Key key = is_short ? ShortPieces::key_of(piece) : ShortPieces::Key{};
  if (is_short) {
    if (const ShortPieces::Entry* hit = scratch.short_pieces.find(key)) {
      for (std::uint16_t i = 0; i < hit->count; ++i) out.push_back(hit->ids[i]);
      return;
    }
  }
  const std::uint64_t hash = cacheable ? hash_bytes(piece) : 0;
  if (cacheable) {
    if (const PieceCache::Entry* hit = scratch.cache.find(piece, hash)) {
      for (std::uint32_t i = 0; i < hit->count; ++i) out.push_back(hit->ids[i]);
      return;
    }
  }
  const bool whole = merge_piece(piece, scratch);
  const std::vector<std::int32_t>& ids = scratch.ids;
  if (whole && is_short && ids.size() <= ShortPieces::max_ids) scratch.short_pieces.insert(key, ids.data(), ids.size());
  else if (whole && cacheable) scratch.cache.insert(piece, hash, ids.data(), ids.size());
  out.insert(out.end(), ids.begin(), ids.end());
}

KDLIB_FUNC bool BpeModel::merge_piece(std::string_view piece, BpeScratch& scratch) const {
  std::vector<std::int32_t>& ids = scratch.ids;
  ids.clear();
  std::uint64_t dropped = 0;
  const std::int32_t whole = ignore_merges ? vocabulary.find(piece) : Vocabulary::none;
  if (whole != Vocabulary::none) {
    ids.push_back(whole);
    return true;
  }
  for (const char c : piece) {
    const std::int32_t id = byte_token[static_cast<unsigned char>(c)];
    if (id != Vocabulary::none) ids.push_back(id);
    else ++dropped;
  }
  if (ids.size() <= 64) merge_short(merges, ids);
  else merge_long(merges, scratch);
  scratch.dropped_bytes += dropped;
  return dropped == 0;
}

KDLIB_FUNC void merge_short(const MergeTable& merges, std::vector<std::int32_t>& ids) {
  Merge pairs[64];  // pairs[i]: joining ids[i] and ids[i + 1]
  std::size_t n = ids.size();
  for (std::size_t i = 0; i + 1 < n; ++i) pairs[i] = merges.find(ids[i], ids[i + 1]);
  while (n > 1) {
    std::size_t best = 0;
    for (std::size_t i = 1; i + 1 < n; ++i)
      if (pairs[i].rank < pairs[best].rank) best = i;
    if (pairs[best].rank == no_rank) break;
    ids[best] = pairs[best].id;
    for (std::size_t i = best + 1; i + 1 < n; ++i) {
      ids[i] = ids[i + 1];
      pairs[i - 1] = pairs[i];
    }
    --n;
    if (best + 1 < n) pairs[best] = merges.find(ids[best], ids[best + 1]);
    if (best > 0) pairs[best - 1] = merges.find(ids[best - 1], ids[best]);
  }
  ids.resize(n);
}

KDLIB_FUNC void merge_long(const MergeTable& merges, BpeScratch& scratch) {
  constexpr std::uint32_t end = 0xFFFFFFFFu;
  constexpr std::int32_t gone = -1;
  std::vector<std::int32_t>& ids = scratch.ids;
  std::vector<std::uint32_t>&next = scratch.next, &before = scratch.before;
  auto& heap = scratch.heap;
  const auto n = static_cast<std::uint32_t>(ids.size());
  next.resize(n);
  before.resize(n);
  heap.clear();
  using Candidate = BpeScratch::Candidate;
  const auto later = [](const Candidate& a, const Candidate& b) {
    return a.rank != b.rank ? a.rank > b.rank : a.at > b.at;
  };
  const auto candidate = [&](std::uint32_t at, bool push) {
    if (at == end || next[at] == end) return;
    const Merge merge = merges.find(ids[at], ids[next[at]]);
    if (merge.rank == no_rank) return;
    heap.push_back({merge.rank, at, ids[at], ids[next[at]], merge.id});
    if (push) std::push_heap(heap.begin(), heap.end(), later);
  };
  for (std::uint32_t i = 0; i < n; ++i) {
    before[i] = i == 0 ? end : i - 1;
    next[i] = i + 1 == n ? end : i + 1;
  }
  for (std::uint32_t i = 0; i < n; ++i) candidate(i, false);
  std::make_heap(heap.begin(), heap.end(), later);
  while (!heap.empty()) {
    std::pop_heap(heap.begin(), heap.end(), later);
    const Candidate c = heap.back();
    heap.pop_back();
    // Stale when either side has been joined with something else since.
    if (ids[c.at] != c.left || next[c.at] == end || ids[next[c.at]] != c.right) continue;
    const std::uint32_t right = next[c.at];
    ids[c.at] = c.id;
    ids[right] = gone;
    next[c.at] = next[right];
    if (next[right] != end) before[next[right]] = c.at;
    candidate(before[c.at], true);
    candidate(c.at, true);
  }
  ids.erase(std::remove(ids.begin(), ids.end(), gone), ids.end());
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
