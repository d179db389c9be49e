// SPDX-License-Identifier: Apache-2.0
// Tokenizers over characters as SentencePiece has them: byte-pair encoding with byte fallback, and Unigram.
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

/// What decoding takes away at the beginning of a text.
enum class DecoderStrip {
  none,
  one_space,
  spaces_of_first_token,
  one_space_each  // of the first token, and of those behind tokens of which nothing else is left
};

struct PieceModel {
  enum class Kind { merges, unigram };
  static constexpr std::size_t longest_piece = 512;  // bytes; longer ones are refused

  PieceModel();

  Kind kind = Kind::merges;
  PieceRules rules;
  Vocabulary pieces;             // as files write them
  std::int32_t byte_token[256];  // the tokens <0x00> to <0xFF>, or Vocabulary::none
  std::int32_t unknown = Vocabulary::none;
  bool byte_fallback = false;  // a character without a token is its bytes' tokens, if all of them are there
  bool fuse_unknown = false;   // unknown characters side by side are one unknown token
  bool ignore_merges = false;
  MergeTable merges;           // merges; equal ranks go from left to right
  std::vector<double> scores;  // unigram: natural logarithms, by id
  std::vector<bool> defined;   // by id, or empty: pieces that users have defined; nothing is joined with them (merges),
                               // or they score more than their parts (unigram)
  bool single_precision = false;  // unigram: sums are rounded to floats, as the sentencepiece library keeps them
  DecoderStrip strip = DecoderStrip::none;
  bool decodes_bytes = false, decodes_metaspace = false;

  /// merges: makes them from scores (SentencePiece joins the pair whose joined piece has the highest score, the
  /// leftmost of equals). Characters without a token take part.
  void merge_by_scores();
  /// After all pieces, merges and scores.
  void finish();
  bool is_defined(std::int32_t id) const {
    return static_cast<std::size_t>(id) < defined.size() && defined[static_cast<std::size_t>(id)];
  }
  /// Sets byte_token from the pieces <0xNN>.
  void set_byte_tokens();
  /// There is a token for each byte.
  bool has_all_bytes() const;
  /// Appends the ids of a text that `rules` has normalised.
  void encode(std::string_view text, BpeScratch& scratch, std::vector<std::int32_t>& out) const;
  /// The bytes that a piece stands for in a text.
  std::string decoded(std::string_view piece) const;
  /// The tokens of bytes; false when one has none.
  bool append_bytes(std::string_view bytes, std::vector<std::int32_t>& out) const;

 private:
  static constexpr std::int32_t first_character = static_cast<std::int32_t>(Vocabulary::max_id) + 1;
  static constexpr unsigned join_bits = 19;

  std::int32_t symbol(std::string_view piece) const;  // the id of a piece, or of a character without one
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

  Vocabulary characters_;              // without a token, but inside pieces: their symbols begin at first_character
  std::vector<std::uint64_t> joined_;  // a Bloom filter of the character pairs that a merge can join; empty: all
  ByteTrie trie_;
  std::vector<double> path_scores_;  // scores as the tokenizers library has them
  double unknown_score_ = 0;
};

}  // namespace detail
KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/text/piece_model_inl.hpp"
#endif

#endif
