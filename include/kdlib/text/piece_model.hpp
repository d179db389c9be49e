// SPDX-License-Identifier: Apache-2.0
// The tokenizer models of SentencePiece, which work on characters: byte-pair encoding with byte fallback, and Unigram.
// Sources: Kudo and Richardson, "SentencePiece" (EMNLP 2018); Kudo, "Subword regularization" (ACL 2018). The exact
// rules are those of the sentencepiece and tokenizers libraries (docs/formats.md).
#ifndef KDLIB_TEXT_PIECE_MODEL_HPP
#define KDLIB_TEXT_PIECE_MODEL_HPP

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kdlib/text/bpe_model.hpp"
#include "kdlib/text/piece_normalizer.hpp"
#include "kdlib/text/vocabulary.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// The spaces that decoding removes at the beginning of a text.
enum class DecoderStrip {
  none,
  one_space,
  spaces_of_first_token,
  one_space_each  // one space of the first token; if nothing else is left of this token, also one of the next token,
                  // and so on
};

struct PieceModel {
  enum class Kind { merges, unigram };
  static constexpr std::size_t longest_piece = 512;  // bytes; a longer piece is refused

  PieceModel();

  Kind kind = Kind::merges;
  PieceRules rules;
  Vocabulary pieces;             // the pieces in the form of the files
  std::int32_t byte_token[256];  // ids of the tokens <0x00> to <0xFF>, or Vocabulary::none
  std::int32_t unknown = Vocabulary::none;
  bool byte_fallback = false;  // true: a character without a token becomes the tokens of its bytes
  bool fuse_unknown = false;   // true: neighbouring unknown characters become one unknown token
  bool ignore_merges = false;
  MergeTable merges;           // for Kind::merges; pairs of equal rank are joined from left to right
  std::vector<double> scores;  // for Kind::unigram: natural logarithms of probabilities, by id
  std::vector<bool> defined;   // by id, or empty: marks pieces that users have defined. Kind::merges joins nothing with
                               // them; in Kind::unigram they score more than their parts
  bool single_precision = false;  // for Kind::unigram: sums are rounded to float, as in the sentencepiece library
  DecoderStrip strip = DecoderStrip::none;
  bool decodes_bytes = false, decodes_metaspace = false;

  /// For Kind::merges: makes the merges from the scores of the pieces. SentencePiece joins the pair whose joined piece
  /// has the highest score, and of equal scores the leftmost. Characters without a token take part.
  void merge_by_scores();
  /// Builds what encode() needs; to be called after all pieces, merges and scores are set.
  void finish();
  bool is_defined(std::int32_t id) const {
    return static_cast<std::size_t>(id) < defined.size() && defined[static_cast<std::size_t>(id)];
  }
  /// Sets byte_token from the pieces <0xNN>.
  void set_byte_tokens();
  /// True if there is a token for each byte.
  bool has_all_bytes() const;
  /// Appends the ids of a text that `rules` has normalised.
  void encode(std::string_view text, BpeScratch& scratch, std::vector<std::int32_t>& out) const;
  /// Returns the bytes for which a piece stands in a text.
  std::string decoded(std::string_view piece) const;
  /// Appends the tokens of bytes. Returns false, with `out` unchanged, if a byte has no token.
  bool append_bytes(std::string_view bytes, std::vector<std::int32_t>& out) const;

 private:
  static constexpr std::int32_t first_character = static_cast<std::int32_t>(Vocabulary::max_id) + 1;
  static constexpr unsigned join_bits = 19;

  std::int32_t symbol(std::string_view piece) const;  // the id of a piece, or the number of a character without an id
  std::string_view surface(std::int32_t symbol) const;
  static std::size_t join_slot(char32_t left, char32_t right);
  bool joins(char32_t left, char32_t right) const;
  void append_unknown(std::string_view bytes, bool may_fuse, std::vector<std::int32_t>& out) const;
  void encode_merges(std::string_view text, BpeScratch& scratch, std::vector<std::int32_t>& out) const;
  void encode_piece(std::string_view piece, bool may_fuse, BpeScratch& scratch, std::vector<std::int32_t>& out) const;
  void merge_piece(std::string_view piece, BpeScratch& scratch) const;
  void finish_unigram();
  void encode_unigram(std::string_view text, BpeScratch& scratch, std::vector<std::int32_t>& out) const;
  void best_path(std::string_view text, BpeScratch& scratch, std::vector<std::int32_t>& out) const;

  Vocabulary characters_;  // characters inside pieces that have no token; their symbols begin at first_character
  std::vector<std::uint64_t> joined_;  // a Bloom filter of pairs of characters that a merge can join; empty: any
  ByteTrie trie_;
  std::vector<double> path_scores_;  // scores in the form of the tokenizers library
  double unknown_score_ = 0;
};

}  // namespace detail
KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/text/piece_model_inl.hpp"
#endif

#endif
