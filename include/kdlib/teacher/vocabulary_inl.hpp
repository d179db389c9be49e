// SPDX-License-Identifier: Apache-2.0
// Bodies of vocabulary.hpp.
#ifndef KDLIB_TEACHER_VOCABULARY_INL_HPP
#define KDLIB_TEACHER_VOCABULARY_INL_HPP

#include <string>

#include "kdlib/core/error.hpp"
#include "kdlib/teacher/vocabulary.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_FUNC std::string tokenizer_hash(const Tokenizer& tokenizer) {
  std::string hash(16, '0');
  for (int i = 0; i < 16; ++i)
    hash[static_cast<std::size_t>(i)] = "0123456789abcdef"[(tokenizer.content_hash() >> (60 - 4 * i)) & 15];
  return hash;
}

namespace detail {

KDLIB_FUNC std::string vocabulary_text(const VocabularySide& side) {
  if (side.tokenizer == nullptr) return concat(side.rows, " rows and no tokenizer");
  return concat(side.rows, " rows and the tokenizer ", side.tokenizer->source(), " (", side.tokenizer->vocab_size(),
                " ids, hash ", tokenizer_hash(*side.tokenizer), ")");
}

}  // namespace detail

KDLIB_FUNC void check_tokenizer_fits(const Tokenizer& tokenizer, std::int64_t rows) {
  require<ConfigError>(tokenizer.vocab_size() <= rows, "[vocabulary] the tokenizer ", tokenizer.source(),
                       " has ids up to ", tokenizer.vocab_size() - 1, ", the model's embedding and head have ", rows,
                       " rows (vocab_size): use the tokenizer that belongs to the model");
}

KDLIB_FUNC std::int64_t common_vocabulary(const VocabularySide& teacher, const VocabularySide& student) {
  for (const VocabularySide* side : {&teacher, &student})
    if (side->tokenizer != nullptr) check_tokenizer_fits(*side->tokenizer, side->rows);
  const bool both = teacher.tokenizer != nullptr && student.tokenizer != nullptr;
  const bool same =
      both ? teacher.tokenizer->content_hash() == student.tokenizer->content_hash() : teacher.rows == student.rows;
  require<ConfigError>(same, "[vocabulary] the models do not speak of the same tokens: the teacher has ",
                       detail::vocabulary_text(teacher), ", the student ", detail::vocabulary_text(student),
                       ". Distil between models of one family, or give both the same tokenizer");
  return both && teacher.rows != student.rows ? teacher.tokenizer->vocab_size() : teacher.rows;
}

KDLIB_NAMESPACE_END

#endif
