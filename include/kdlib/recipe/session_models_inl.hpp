// SPDX-License-Identifier: Apache-2.0
// Bodies of recipe/session.hpp: the models of a run are loaded, and a student that equals its teacher is noticed.
#ifndef KDLIB_RECIPE_SESSION_MODELS_INL_HPP
#define KDLIB_RECIPE_SESSION_MODELS_INL_HPP

#include "kdlib/io/content_hash.hpp"
#include "kdlib/recipe/model_files.hpp"
#include "kdlib/recipe/session.hpp"

KDLIB_NAMESPACE_BEGIN

template <class D, class T>
void Session<D, T>::load_models(std::optional<Tokenizer>& tokenizer) {
  const RecipeModels& models = s_.models;
  const RecipeTrains trains = s_.student.trains;
  note(concat("loading ", models.text_model()));
  if (!models.taught()) {
    student_.emplace(Model::from_pretrained(
        models.student_path(), {.trainable = trains == RecipeTrains::all,
                                .weights = trains == RecipeTrains::lora ? frozen_storage<D> : WeightStorage::decoded}));
    tokenizer = find_model_tokenizer(models.student_path());
    if (tokenizer) check_tokenizer_fits(*tokenizer, student_->vocab_size());
    if (models.cached()) check_caches(tokenizer);
    if (models.is_remote()) open_remote(tokenizer);
    if (models.by_row()) open_named(tokenizer);
    if (models.on_ranks) open_ranked(tokenizer);
    return;
  }
  const bool adapted = !models.teacher_adapter.empty();
  const bool shares = models.student_path() == models.teacher && trains != RecipeTrains::all && !adapted;
  // What is trained through codes needs its weights in memory; a teacher that shares them has them there, too.
  const WeightStorage of_student = trains == RecipeTrains::lora ? frozen_storage<D> : WeightStorage::decoded;
  teacher_.emplace(Model::from_pretrained(models.teacher, {.trainable = false,
                                                           .weights = adapted  ? WeightStorage::decoded
                                                                      : shares ? of_student
                                                                               : frozen_storage<D>}));
  if (adapted) {
    note(concat("merging the teacher's adapter ", models.teacher_adapter));
    for (const std::string& text : apply_adapter(*teacher_, models.teacher_adapter)) note(text);
  }
  teacher_->fold_cores();
  tokenizer = find_model_tokenizer(models.teacher);
  if (tokenizer) check_tokenizer_fits(*tokenizer, teacher_->vocab_size());
  if (shares) {
    student_.emplace(teacher_->share());
    shares_weights_ = true;
    return;
  }
  student_.emplace(
      Model::from_pretrained(models.student_path(), {.trainable = trains == RecipeTrains::all, .weights = of_student}));
  const std::optional<Tokenizer> other = find_model_tokenizer(models.student_path());
  const SharedVocabulary shared = share_vocabulary({teacher_->vocab_size(), tokenizer ? &*tokenizer : nullptr},
                                                   {student_->vocab_size(), other ? &*other : nullptr});
  for (const std::string& text : shared.notes) note(text);
  teacher_->set_real_vocabulary(shared.ids);
  student_->set_real_vocabulary(shared.ids);
}

/// Where a teacher computes what the student computes: "student and teacher", or with the teacher's name among several.
/// Empty where none does.
template <class D, class T>
std::string Session<D, T>::equal_models() const {
  const RecipeModels& m = s_.models;
  const bool plain = m.student_adapter.empty();  // beside a teacher without an adapter
  const std::string& student = m.student_path();
  const auto is_student = [&](const detail::OpenedCache& cache) {
    const std::string& hash = cache.files().meta().facts.teacher_hash;
    return plain && !hash.empty() && hash == input_hash("student", student);
  };
  if (cache_) return is_student(*cache_) ? "student and teacher" : "";
  for (const Named& named : named_)
    if (named.cache != nullptr ? is_student(*named.cache)
                               : plain && !named.remote && hold_same_model(named.place, student))
      return concat("student and the teacher ", named.name);
  if (m.teacher.empty() || m.is_remote() || m.by_row()) return "";
  const bool same_adapters = m.teacher_adapter.empty() == plain &&
                             (plain || content_hash(m.teacher_adapter) == content_hash(m.student_adapter));
  return same_adapters && (shares_weights_ || hold_same_model(m.teacher, student)) ? "student and teacher" : "";
}

template <class D, class T>
void Session<D, T>::warn_of_equal_models() {
  if (s_.student.rounded || !ranks_.leads()) return;
  if (const std::string who = equal_models(); !who.empty())
    note(concat(
        "warning: ", who,
        " are one model and nothing is rounded, so every divergence and its gradient are 0: name another --student or "
        "a --quantize, unless the loss has terms of its own (cross_entropy)"));
}

KDLIB_NAMESPACE_END

#endif
