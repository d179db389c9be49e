// SPDX-License-Identifier: Apache-2.0
// Bodies of recipe/session.hpp: a teacher that ranks of its own hold.
#ifndef KDLIB_RECIPE_SESSION_RANKED_INL_HPP
#define KDLIB_RECIPE_SESSION_RANKED_INL_HPP

#include "kdlib/recipe/session.hpp"

KDLIB_NAMESPACE_BEGIN

/// The vocabulary is compared as beside a teacher in memory: the files of its tokenizer are here, its weights are not.
template <class D, class T>
void Session<D, T>::open_ranked(const std::optional<Tokenizer>& tokenizer) {
  require<ConfigError>(teacher_link_ != nullptr,
                       "[Session] the teacher is on other ranks, and none is to be asked: "
                       "call ask_ranks() before run()");
  const std::string& path = s_.models.teacher;
  RankTeacher<D, T> teacher(teacher_link_);
  const std::optional<Tokenizer> theirs = find_model_tokenizer(path);
  const SharedVocabulary shared = share_vocabulary({teacher.vocab_size(), theirs ? &*theirs : nullptr},
                                                   {student_->vocab_size(), tokenizer ? &*tokenizer : nullptr});
  for (const std::string& text : shared.notes) note(text);
  teacher.set_real_vocabulary(shared.ids);
  student_->set_real_vocabulary(shared.ids);
  other_name_ = concat(path, " on ranks of its own");
  note(concat("the teacher is ", other_name_));
  other_hidden_.emplace(std::move(teacher));
}

template <class D, class T>
void serve_teacher_rank(const RecipeModels& models, const TeacherRanks& ranks,
                        const std::function<void(const std::string&)>& note) {
  const bool adapted = !models.teacher_adapter.empty();
  Decoder<D, T> model = Decoder<D, T>::from_pretrained(
      models.teacher, {.trainable = false, .weights = adapted ? WeightStorage::decoded : frozen_storage<D>});
  for (const std::string& text : model.notes()) note(text);
  if (adapted)
    for (const std::string& text : apply_adapter(model, models.teacher_adapter)) note(text);
  model.fold_cores();
  if (const std::optional<Tokenizer> tokenizer = find_model_tokenizer(models.teacher))
    check_tokenizer_fits(*tokenizer, model.vocab_size());
  serve_students(model, ranks);
}

KDLIB_NAMESPACE_END

#endif
