// SPDX-License-Identifier: Apache-2.0
// Checks whether the logits of a teacher and of a student are about the same tokens.
#ifndef KDLIB_TEACHER_VOCABULARY_HPP
#define KDLIB_TEACHER_VOCABULARY_HPP

#include <cstdint>
#include <string>
#include <vector>

#include "kdlib/text/byte_level_bpe.hpp"

KDLIB_NAMESPACE_BEGIN

/// One model of a comparison: the rows of its head, and its tokenizer (nullptr if the model has none).
struct VocabularySide {
  std::int64_t rows = 0;
  const Tokenizer* tokenizer = nullptr;
};

/// What two models have in common.
struct SharedVocabulary {
  std::int64_t ids = 0;  // the models are compared on ids [0, ids); every id that both tokenizers have is below `ids`
  std::vector<std::string> notes;  // harmless differences, one sentence each
};

/// Compares two vocabularies token by token. Some differences between models of one family are allowed and give a note:
/// the padding rows of the heads; added tokens that only one side has (or that the other side holds under a reserved
/// name, such as "<|reserved_special_token_0|>"); and which tokens are special. If a side has no tokenizer, both heads
/// must have the same number of rows.
/// ConfigError names both sides and the first id that does not fit: one id stands for two tokens, one token has two
/// ids, one side lacks a token of the other's base vocabulary, or a tokenizer has more ids than its model has rows.
SharedVocabulary share_vocabulary(const VocabularySide& teacher, const VocabularySide& student);

/// Returns only the number of shared ids, SharedVocabulary::ids of share_vocabulary().
std::int64_t common_vocabulary(const VocabularySide& teacher, const VocabularySide& student);

/// Returns the content_hash of a tokenizer in 16 hexadecimal digits, as caches keep it.
std::string tokenizer_hash(const Tokenizer& tokenizer);

/// Throws ConfigError if the tokenizer has ids for which the model has no row.
void check_tokenizer_fits(const Tokenizer& tokenizer, std::int64_t rows);
/// Returns a sentence for each end token for which the model has no row, so that no text can end with this token.
std::vector<std::string> end_token_notes(const Tokenizer& tokenizer, std::int64_t rows);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/teacher/vocabulary_inl.hpp"
#endif

#endif
