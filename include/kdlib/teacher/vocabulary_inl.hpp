// SPDX-License-Identifier: Apache-2.0
// Bodies of vocabulary.hpp.
#ifndef KDLIB_TEACHER_VOCABULARY_INL_HPP
#define KDLIB_TEACHER_VOCABULARY_INL_HPP

#include <algorithm>
#include <string>
#include <string_view>
#include <unordered_map>

#include "kdlib/core/error.hpp"
#include "kdlib/core/fingerprint.hpp"
#include "kdlib/io/utf8.hpp"
#include "kdlib/teacher/vocabulary.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_FUNC std::string tokenizer_hash(const Tokenizer& tokenizer) { return hex_digits(tokenizer.content_hash()); }

namespace detail {

KDLIB_FUNC std::string vocabulary_text(const VocabularySide& side) {
  if (side.tokenizer == nullptr) return concat(side.rows, " rows and no tokenizer");
  return concat(side.rows, " rows and the tokenizer ", side.tokenizer->source(), " (", side.tokenizer->vocab_size(),
                " ids, hash ", tokenizer_hash(*side.tokenizer), ")");
}

[[noreturn]] KDLIB_FUNC void refuse_vocabularies(const VocabularySide& teacher, const VocabularySide& student,
                                                 const std::string& why) {
  fail<ConfigError>("[vocabulary] the models do not speak of the same tokens", why.empty() ? "" : ": ", why,
                    ". The teacher has ", vocabulary_text(teacher), ", the student ", vocabulary_text(student),
                    ". Distil between models of one family, or give both the same tokenizer");
}

/// Names of rows that no text uses: "[PAD151665]", "<|reserved_special_token_3|>", "<unused12>", "[unused1]".
KDLIB_FUNC bool is_reserved_name(std::string_view token) {
  for (const std::string_view word : {"[PAD", "<|reserved_", "<reserved_", "<unused", "<|unused", "[unused"})
    if (token.starts_with(word) && token.find_first_of("0123456789") != std::string_view::npos) return true;
  return false;
}

/// The tokens of a tokenizer by their bytes, and the ids of added ones.
struct TokenIndex {
  explicit TokenIndex(const Tokenizer& tokenizer) {
    for (std::int32_t id = 0; id < tokenizer.vocab_size(); ++id)
      if (tokenizer.has_token(id)) by_bytes.emplace(tokenizer.token_bytes(id), id);
    for (const AddedToken& t : tokenizer.added_tokens()) added.push_back(t.id);
    std::sort(added.begin(), added.end());
  }
  bool is_added(std::int32_t id) const { return std::binary_search(added.begin(), added.end(), id); }
  std::unordered_map<std::string_view, std::int32_t> by_bytes;  // of equal tokens the first
  std::vector<std::int32_t> added;                              // sorted
};

/// Collects ids and names them: "151657 <tool_call>, 151658 </tool_call> and 5 more".
class IdList {
 public:
  void add(std::int32_t id, std::string_view token) {
    if (++count_ <= 3) text_ += concat(count_ > 1 ? ", " : "", id, " \"", printable(token), "\"");
  }
  std::int64_t count() const { return count_; }
  std::string text() const { return count_ > 3 ? concat(text_, " and ", count_ - 3, " more") : text_; }

 private:
  std::int64_t count_ = 0;
  std::string text_;
};

/// Walks over the ids of two tokenizers that are not equal.
class VocabularyComparison {
 public:
  VocabularyComparison(const VocabularySide& teacher, const VocabularySide& student)
      : sides_{teacher, student}, index_{TokenIndex(*teacher.tokenizer), TokenIndex(*student.tokenizer)} {}

  SharedVocabulary compare() {
    const std::int32_t ids = std::max(tokenizer(0).vocab_size(), tokenizer(1).vocab_size());
    for (std::int32_t id = 0; id < ids; ++id) visit(id);
    if (shared_.ids == 0) refuse("no id has the same token in both");
    for (int s = 0; s < 2; ++s)
      if (only_[s].count() > 0)
        shared_.notes.push_back(concat("added tokens that only the ", name(s), "'s tokenizer has: ", only_[s].text()));
    if (special_.count() > 0)
      shared_.notes.push_back(concat("tokens that are special in one tokenizer only: ", special_.text()));
    return std::move(shared_);
  }

 private:
  const Tokenizer& tokenizer(int side) const { return *sides_[side].tokenizer; }
  static const char* name(int side) { return side == 0 ? "teacher" : "student"; }
  bool has(int side, std::int32_t id) const {
    return id < tokenizer(side).vocab_size() && tokenizer(side).has_token(id);
  }
  std::string_view bytes(int side, std::int32_t id) const { return tokenizer(side).token_bytes(id); }
  [[noreturn]] void refuse(const std::string& why) const { refuse_vocabularies(sides_[0], sides_[1], why); }

  void visit(std::int32_t id) {
    const bool both = has(0, id) && has(1, id);
    if (both && bytes(0, id) == bytes(1, id)) {
      if (tokenizer(0).is_special(id) != tokenizer(1).is_special(id)) special_.add(id, bytes(0, id));
      shared_.ids = id + 1;
      return;
    }
    bool used[2];
    for (int s = 0; s < 2; ++s) used[s] = has(s, id) && !(index_[s].is_added(id) && is_reserved_name(bytes(s, id)));
    if (used[0] && used[1])
      refuse(concat("id ", id, " is \"", printable(bytes(0, id)), "\" for the teacher and \"", printable(bytes(1, id)),
                    "\" for the student"));
    for (int s = 0; s < 2; ++s)
      if (used[s]) visit_single(s, id);
  }

  /// A token that the other side does not have under this id.
  void visit_single(int side, std::int32_t id) {
    const int other = 1 - side;
    const auto moved = index_[other].by_bytes.find(bytes(side, id));
    const bool elsewhere = moved != index_[other].by_bytes.end() &&
                           !(has(side, moved->second) && bytes(side, moved->second) == bytes(side, id));
    if (elsewhere)
      refuse(concat("\"", printable(bytes(side, id)), "\" is id ", id, " for the ", name(side), " and id ",
                    moved->second, " for the ", name(other)));
    if (!index_[side].is_added(id))
      refuse(concat("id ", id, " is \"", printable(bytes(side, id)), "\" in the ", name(side),
                    "'s base vocabulary, and no token of the ", name(other), "'s"));
    only_[side].add(id, bytes(side, id));
  }

  VocabularySide sides_[2];
  TokenIndex index_[2];
  IdList only_[2], special_;
  SharedVocabulary shared_;
};

}  // namespace detail

KDLIB_FUNC void check_tokenizer_fits(const Tokenizer& tokenizer, std::int64_t rows) {
  require<ConfigError>(tokenizer.vocab_size() <= rows, "[vocabulary] the tokenizer ", tokenizer.source(),
                       " has ids up to ", tokenizer.vocab_size() - 1, ", the model's embedding and head have ", rows,
                       " rows (vocab_size): use the tokenizer that belongs to the model");
}

KDLIB_FUNC std::vector<std::string> end_token_notes(const Tokenizer& tokenizer, std::int64_t rows) {
  std::vector<std::string> notes;
  for (const std::int32_t id : tokenizer.stop_ids())
    if (id >= rows)
      notes.push_back(concat(tokenizer.source(), ": the end token ", id, " (eos_token_id) is none of the model's ",
                             rows, " ids: no text ends there"));
  return notes;
}

KDLIB_FUNC SharedVocabulary share_vocabulary(const VocabularySide& teacher, const VocabularySide& student) {
  for (const VocabularySide* side : {&teacher, &student})
    if (side->tokenizer != nullptr) check_tokenizer_fits(*side->tokenizer, side->rows);
  SharedVocabulary shared;
  shared.ids = teacher.rows;
  if (teacher.tokenizer == nullptr || student.tokenizer == nullptr) {
    if (teacher.rows != student.rows) detail::refuse_vocabularies(teacher, student, "");
    return shared;
  }
  const bool equal = teacher.tokenizer->content_hash() == student.tokenizer->content_hash();
  if (equal && teacher.rows == student.rows) return shared;
  if (equal) shared.ids = teacher.tokenizer->vocab_size();
  else shared = detail::VocabularyComparison(teacher, student).compare();
  if (teacher.rows != student.rows)
    shared.notes.push_back(concat("the heads are padded differently: the teacher has ", teacher.rows,
                                  " rows, the student ", student.rows));
  if (!equal || teacher.rows != student.rows)
    shared.notes.push_back(concat("the first ", shared.ids, " ids are compared"));
  return shared;
}

KDLIB_FUNC std::int64_t common_vocabulary(const VocabularySide& teacher, const VocabularySide& student) {
  return share_vocabulary(teacher, student).ids;
}

KDLIB_NAMESPACE_END

#endif
