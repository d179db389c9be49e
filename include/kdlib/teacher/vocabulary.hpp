// SPDX-License-Identifier: Apache-2.0
// Whether a teacher's and a student's logits are about the same tokens.
#ifndef KDLIB_TEACHER_VOCABULARY_HPP
#define KDLIB_TEACHER_VOCABULARY_HPP

#include <cstdint>
#include <string>

#include "kdlib/text/byte_level_bpe.hpp"

KDLIB_NAMESPACE_BEGIN

/// One side of a comparison: rows of the head, and the tokenizer (nullptr where the model has none).
struct VocabularySide {
  std::int64_t rows = 0;
  const Tokenizer* tokenizer = nullptr;
};

/// The ids both models share: the tokenizer's where both have one (heads may be padded differently), else the common
/// number of rows. ConfigError, naming both sizes and both tokenizers: other tokens, or unequal sizes without
/// tokenizers.
std::int64_t common_vocabulary(const VocabularySide& teacher, const VocabularySide& student);

/// A tokenizer's content_hash in 16 hexadecimal digits, as caches keep it.
std::string tokenizer_hash(const Tokenizer& tokenizer);

/// ConfigError when a tokenizer makes ids that the model has no row for.
void check_tokenizer_fits(const Tokenizer& tokenizer, std::int64_t rows);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/teacher/vocabulary_inl.hpp"
#endif

#endif
