// SPDX-License-Identifier: Apache-2.0
// Byte-pair encoding of one piece of text: repeatedly join the adjacent pair of lowest rank; of pairs with equal rank
// the leftmost first.
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

/// The result of joining two tokens: the id of the joined token, and the rank of the pair. Pairs of lower rank are
/// joined first.
struct Merge {
  std::uint32_t rank;
  std::int32_t id;
};
inline constexpr std::uint32_t no_rank = 0xFFFFFFFFu;

/// A hash table (open addressing) from (left id, right id) to Merge. In most cases a look-up touches one cache line.
class MergeTable {
 public:
  void reserve(std::size_t merges);
  void add(std::int32_t left, std::int32_t right, Merge merge);  // a later rank of the same pair replaces the earlier
  Merge find(std::int32_t left, std::int32_t right) const;       // rank no_rank: there is no such pair
  std::size_t size() const { return used_; }
  /// Returns the pairs (left, right) in the order of their ranks.
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

/// A cache of the ids of short pieces that were encoded before; most pieces of a text are short. Each piece has two
/// possible places, both in one cache line. A new piece overwrites the place that was not used last.
class ShortPieces {
 public:
  static constexpr std::size_t max_bytes = 16, max_ids = 3;
  /// A piece of 1 to 16 bytes. `length`, `low` and `high` together determine all its bytes.
  struct Key {
    std::uint64_t low = 0, high = 0;
    std::uint32_t length = 0;
    bool operator==(const Key&) const = default;
  };
  struct Entry {
    std::uint64_t low = 0, high = 0;
    std::uint16_t length = 0, count = 0;  // length 0: the place is free
    std::int32_t ids[max_ids] = {};
  };
  ShortPieces();
  static Key key_of(std::string_view piece);
  /// Returns the entry of a piece, or nullptr.
  const Entry* find(const Key& key);
  void insert(const Key& key, const std::int32_t* ids, std::size_t count);

 private:
  struct alignas(64) Pair {
    Entry way[2];
  };
  Pair& pair_of(const Key& key);
  std::vector<Pair> pairs_;
};

/// A cache of the ids of longer pieces. Each piece has two possible places; a new piece overwrites the older entry. The
/// memory is bounded, and no call allocates memory.
class PieceCache {
 public:
  static constexpr std::size_t max_bytes = 31, max_ids = 7;
  PieceCache();
  struct alignas(64) Entry {
    char key[max_bytes];
    std::uint8_t length;  // 0: the entry is free
    std::int32_t ids[max_ids];
    std::uint32_t count;
  };
  /// Returns the entry of a piece of at most max_bytes bytes, or nullptr.
  const Entry* find(std::string_view piece, std::uint64_t hash);
  void insert(std::string_view piece, std::uint64_t hash, const std::int32_t* ids, std::size_t count);

 private:
  std::vector<Entry> entries_;
};

/// The work space of one thread that encodes.
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
  struct PathNode {  // the best segmentation of the text up to this byte (Unigram)
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
  bool ignore_merges = false;    // true: a piece that equals a token becomes this token without merging

  void set_byte_tokens();
  /// Appends the ids of one piece to `out`. Adds the number of bytes without a token to scratch.dropped_bytes.
  void encode_piece(std::string_view piece, BpeScratch& scratch, std::vector<std::int32_t>& out) const;

 private:
  bool merge_piece(std::string_view piece, BpeScratch& scratch) const;  // to scratch.ids; false: bytes were dropped
};

/// Joins the pairs of `ids` (at most 64 ids): the pair of lowest rank first, and of equal ranks the leftmost.
void merge_short(const MergeTable& merges, std::vector<std::int32_t>& ids);
/// Does the same for scratch.ids of any length n in O(n log n), with a linked list of symbols and a heap of candidate
/// pairs.
void merge_long(const MergeTable& merges, BpeScratch& scratch);

}  // namespace detail
KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/text/bpe_model_inl.hpp"
#endif

#endif
