// SPDX-License-Identifier: Apache-2.0
// Byte-pair encoding of one piece: repeatedly join the adjacent pair of lowest rank, leftmost first.
// Source: Sennrich et al., "Neural machine translation of rare words with subword units" (ACL 2016), on bytes.
#ifndef KDLIB_TEXT_BPE_MODEL_HPP
#define KDLIB_TEXT_BPE_MODEL_HPP

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kdlib/text/vocabulary.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// What joining two tokens gives. Lower ranks are joined first.
struct Merge {
  std::uint32_t rank;
  std::int32_t id;
};
inline constexpr std::uint32_t no_rank = 0xFFFFFFFFu;

/// (left id, right id) to Merge: open addressing, one cache line a look-up in most cases.
class MergeTable {
 public:
  void reserve(std::size_t merges);
  void add(std::int32_t left, std::int32_t right, Merge merge);  // a later rank of the same pair replaces the earlier
  Merge find(std::int32_t left, std::int32_t right) const;       // rank no_rank: none
  std::size_t size() const { return used_; }
  /// Pairs (left, right) in the order of their ranks.
  std::vector<std::pair<std::int32_t, std::int32_t>> pairs() const;

 private:
  static constexpr std::uint64_t empty = ~std::uint64_t{0};
  struct Slot {
    std::uint64_t key = empty;
    Merge merge{no_rank, 0};
  };
  static std::uint64_t key_of(std::int32_t left, std::int32_t right) {
    return static_cast<std::uint64_t>(static_cast<std::uint32_t>(left)) << 32 | static_cast<std::uint32_t>(right);
  }
  std::size_t slot(std::uint64_t key) const;
  std::vector<Slot> slots_;  // size a power of two
  std::size_t used_ = 0;
};

/// Ids of the shortest pieces seen before, which are most of a text. Two places a piece in one cache line, the one that
/// was not used last overwritten.
class ShortPieces {
 public:
  static constexpr std::size_t max_bytes = 16, max_ids = 3;
  /// A piece of 1 to 16 bytes: with its length, `low` and `high` say all of them.
  struct Key {
    std::uint64_t low = 0, high = 0;
    std::uint32_t length = 0;
    bool operator==(const Key&) const = default;
  };
  struct Entry {
    std::uint64_t low = 0, high = 0;
    std::uint16_t length = 0, count = 0;  // length 0: free
    std::int32_t ids[max_ids] = {};
  };
  ShortPieces();
  static Key key_of(std::string_view piece);
  /// The entry of a piece, or null.
  const Entry* find(const Key& key);
  void insert(const Key& key, const std::int32_t* ids, std::size_t count);

 private:
  struct alignas(64) Pair {
    Entry way[2];
  };
  Pair& pair_of(const Key& key);
  std::vector<Pair> pairs_;
};

/// The same of longer pieces: the older of two is overwritten. Bounded memory and no allocation.
class PieceCache {
 public:
  static constexpr std::size_t max_bytes = 31, max_ids = 7;
  PieceCache();
  struct alignas(64) Entry {
    char key[max_bytes];
    std::uint8_t length;  // 0: free
    std::int32_t ids[max_ids];
    std::uint32_t count;
  };
  /// The entry of a piece of at most max_bytes bytes, or null.
  const Entry* find(std::string_view piece, std::uint64_t hash);
  void insert(std::string_view piece, std::uint64_t hash, const std::int32_t* ids, std::size_t count);

 private:
  std::vector<Entry> entries_;
};

/// Work space of one encoding thread.
struct BpeScratch {
  struct Candidate {
    std::uint32_t rank, at;
    std::int32_t left, right, id;
  };
  ShortPieces short_pieces;
  PieceCache cache;
  std::vector<std::int32_t> ids;
  std::vector<std::uint32_t> next, before;
  std::vector<Candidate> heap;
  struct PathNode {  // the best segmentation that ends here (Unigram)
    double sum = 0;
    std::uint32_t begin = 0;
    std::int32_t id = Vocabulary::none;
  };
  std::vector<PathNode> path;
  std::string text, spare, part;  // normalised text
  std::uint64_t dropped_bytes = 0;
};

struct BpeModel {
  Vocabulary vocabulary;
  MergeTable merges;
  std::int32_t byte_token[256];  // Vocabulary::none: the byte has no token and is dropped before merging
  bool ignore_merges = false;    // a piece that is a token as a whole is that token

  void set_byte_tokens();
  /// Appends the ids of one piece. Bytes without a token are added to scratch.dropped_bytes.
  void encode_piece(std::string_view piece, BpeScratch& scratch, std::vector<std::int32_t>& out) const;

 private:
  bool merge_piece(std::string_view piece, BpeScratch& scratch) const;  // to scratch.ids; false: bytes were dropped
};

/// Joins `ids`, at most 64: the pair of the lowest rank first, the leftmost of equals.
void merge_short(const MergeTable& merges, std::vector<std::int32_t>& ids);
/// The same for scratch.ids, of any length: a linked list of symbols and a heap of candidate pairs, O(n log n).
void merge_long(const MergeTable& merges, BpeScratch& scratch);

}  // namespace detail
KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/text/bpe_model_inl.hpp"
#endif

#endif
