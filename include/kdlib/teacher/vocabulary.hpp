// SPDX-License-Identifier: Apache-2.0
// Whether a teacher's and a student's logits are about the same tokens.
#ifndef KDLIB_TEACHER_VOCABULARY_HPP
#define KDLIB_TEACHER_VOCABULARY_HPP

#include <cstdint>
#include <string>
#include <vector>

#include "kdlib/text/byte_level_bpe.hpp"

KDLIB_NAMESPACE_BEGIN

/// One side of a comparison: rows of the head, and the tokenizer (nullptr where the model has none).
struct VocabularySide {
  std::int64_t rows = 0;
  const Tokenizer* tokenizer = nullptr;
};

/// What two models have in common.
struct SharedVocabulary {
  std::int64_t ids = 0;            // ids [0, ids) are compared; every id that both tokenizers have is below
  std::vector<std::string> notes;  // what differs and does no harm, one sentence each
};

/// Compares token by token. Of models of one family these may differ, with a note: padding rows of the heads, added
/// tokens that one side alone has (or holds as a reserved name, such as "<|reserved_special_token_0|>"), and which
/// tokens are special. Without two tokenizers the numbers of rows must be equal.
/// ConfigError naming both sides and the first id that does not fit: one id for two tokens, one added token under two
/// ids, tokens of the base vocabulary that one side lacks, more ids than rows.
SharedVocabulary share_vocabulary(const VocabularySide& teacher, const VocabularySide& student);

/// The ids of share_vocabulary() alone.
std::int64_t common_vocabulary(const VocabularySide& teacher, const VocabularySide& student);

/// A tokenizer's content_hash in 16 hexadecimal digits, as caches keep it.
std::string tokenizer_hash(const Tokenizer& tokenizer);

/// ConfigError when a tokenizer makes ids that the model has no row for.
void check_tokenizer_fits(const Tokenizer& tokenizer, std::int64_t rows);
/// A sentence for each end token that the model has no row for, so that no text can end there.
std::vector<std::string> end_token_notes(const Tokenizer& tokenizer, std::int64_t rows);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/teacher/vocabulary_inl.hpp"
#endif

#endif
