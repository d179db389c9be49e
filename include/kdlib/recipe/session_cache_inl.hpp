// SPDX-License-Identifier: Apache-2.0
// Bodies of recipe/session.hpp: a teacher's cache in the place of the teacher.
#ifndef KDLIB_RECIPE_SESSION_CACHE_INL_HPP
#define KDLIB_RECIPE_SESSION_CACHE_INL_HPP

#include "kdlib/core/settings_error.hpp"
#include "kdlib/recipe/session.hpp"

KDLIB_NAMESPACE_BEGIN

/// Opens the caches that the settings name. A loss or a setting of the signal that they cannot serve is refused as
/// settings are.
template <class D, class T>
void Session<D, T>::open_caches() {
  if (cache_) return;
  const RecipeCache& named = s_.models.cache;
  cache_.emplace(detail::OpenedCache::open(named.folder));
  const bool for_top_k = named.top_k != 0 || named.mass != TopKMass::tail;
  require<SettingsError>(cache_->top_k || !for_top_k,
                         "[distil] --teacher-top-k and --mass belong to caches of the most ", "probable tokens; ",
                         named.folder, " holds hidden states: leave them out");
  checking_settings([this] {
    if (cache_->top_k) {
      require_targets(LossNeeds::top_k, top_k_terms().terms);
      static_cast<void>(top_k_teacher(*cache_->top_k));
    } else {
      require_targets(LossNeeds::vocabulary, s_.objective.loss.terms);
    }
  });
  if (!named.validation.empty()) validation_cache_.emplace(detail::OpenedCache::open(named.validation));
}

/// Compares the caches with the student: tokenizer, vocabulary, context, the teacher if named.
template <class D, class T>
void Session<D, T>::check_caches(const std::optional<Tokenizer>& tokenizer) {
  CacheUse use;
  use.vocabulary = student_->vocab_size();
  if (tokenizer) use.tokenizer = tokenizer_hash(*tokenizer);
  if (!s_.models.teacher.empty()) use.teacher_hash = input_hash("teacher", s_.models.teacher);
  if (s_.text.data.empty()) use.context_length = context_length();
  const std::int64_t shared = tokenizer ? shared_with_cache(cache_->files(), *tokenizer, use) : 0;
  cache_->files().check(use);
  note(concat("the teacher is ", detail::cache_text(cache_->files()), ": ", cache_->files().meta().rows, " rows"));
  if (validation_cache_) validation_cache_->files().check(use);
  const CacheFacts& facts = cache_->files().meta().facts;
  const bool padded = facts.vocabulary != student_->vocab_size();  // by one tokenizer: check() has compared
  std::int64_t ids = shared > 0 ? shared : cache_->top_k ? std::min(facts.columns(), student_->vocab_size()) : 0;
  if (ids == 0 && padded) ids = tokenizer->vocab_size();
  if (ids == 0) return;
  if (cache_->hidden || ids < facts.columns()) real_vocabulary_ = ids;
  student_->set_real_vocabulary(ids);
}

/// Where the cache was made with another tokenizer and keeps it: compares both token by token, and gives how many ids
/// they share. 0: one tokenizer, or nothing to compare.
template <class D, class T>
std::int64_t Session<D, T>::shared_with_cache(const TeacherCache& files, const Tokenizer& own, CacheUse& use) {
  const CacheFacts& facts = files.meta().facts;
  if (facts.tokenizer.empty() || facts.tokenizer == use.tokenizer) return 0;
  const std::optional<Tokenizer> theirs = detail::tokenizer_of_cache(files);
  if (!theirs) return 0;
  const SharedVocabulary shared = share_vocabulary({facts.vocabulary, &*theirs}, {student_->vocab_size(), &own});
  for (const std::string& text : shared.notes) note(text);
  use.tokenizer = facts.tokenizer;  // of a validation cache, too
  return shared.ids;
}

/// A cache's own text. InputError naming the text with a token that the student's tokenizer lacks.
template <class D, class T>
std::vector<TextLine> Session<D, T>::lines_of_cache(const TeacherCache& cache) const {
  std::vector<TextLine> lines = detail::lines_of(cache);
  const std::int64_t ids = student_->head().real_vocabulary;
  if (ids > 0)
    for (const TextLine& line : lines)
      for (std::size_t i = 0; i < line.ids.size(); ++i)
        require<InputError>(line.ids[i] < ids, "[distil] ", line.source, ": id ", line.ids[i], " at position ", i,
                            " is outside the vocabulary of ", ids, " that the teacher and the student share");
  return lines;
}

/// Text for the run from its caches, and the check of every line of --data.
template <class D, class T>
CachedText Session<D, T>::cached_text() const {
  CachedText text;
  if (!cache_ && named_caches_.empty()) return text;
  if (cache_ && s_.text.data.empty()) text.data = lines_of_cache(cache_->files());
  if (validation_cache_) text.validation = lines_of_cache(validation_cache_->files());
  text.keep = [this](const TextLine& line) {
    const detail::OpenedCache* cache = cache_ ? &*cache_ : named_of(line.source).cache;
    if (cache == nullptr) return true;  // its teacher answers
    TokenBatch one;
    append_line(one, line);
    one.sources = {line.source};
    if (cache->files().holds(one)) return true;
    if (!s_.models.cache.skip_missing) static_cast<void>(cache->files().find_rows(one));
    return false;
  };
  return text;
}

template <class D, class T>
typename Session<D, T>::TopKTeacher Session<D, T>::top_k_teacher(const TopKCache& cache) const {
  const double temperature = top_k_temperature(top_k_terms());
  return TopKTeacher(
      CachedTeacher<D, T>(cache, {.temperature = temperature > 0 ? temperature : cache.temperatures().front(),
                                  .top_k = s_.models.cache.top_k,
                                  .real_vocabulary = real_vocabulary_}));
}

template <class D, class T>
AnyHiddenTeacher<D, T> Session<D, T>::hidden_teacher(const TeacherCache& cache) const {
  CachedHiddenTeacher<D, T> teacher(cache);
  if (real_vocabulary_ > 0) teacher.set_real_vocabulary(real_vocabulary_);
  return AnyHiddenTeacher<D, T>(std::move(teacher));
}

/// What the held-out text is compared with: the teacher, or a cache where it holds that text.
template <class D, class T>
void Session<D, T>::find_held_out_signals() {
  if (teacher_) held_out_teacher_.emplace(RememberedTeacher<Model>{*teacher_});
  if (other_hidden_) held_out_teacher_.emplace(*other_hidden_);
  if (other_top_k_) held_out_top_k_.emplace(*other_top_k_);
  if (s_.models.by_row()) find_named_held_out();
  if (!cache_) return;
  const detail::OpenedCache& cache = validation_cache_ ? *validation_cache_ : *cache_;
  if (!cache.files().holds(held_out_)) {
    note(concat(cache.files().folder(),
                " does not hold the held-out text: its perplexity alone is measured "
                "(--validation-cache DIR compares with the teacher)"));
  } else if (cache.top_k) {
    held_out_top_k_.emplace(top_k_teacher(*cache.top_k));
  } else {
    held_out_teacher_.emplace(hidden_teacher(*cache.hidden));
  }
}

/// The objective on the held-out text where whole distributions are not there: against the cached top-k, or of the
/// labels alone.
template <class D, class T>
LossSum Session<D, T>::held_out_loss(Model& model, const EvaluationSettings& settings) {
  if (held_out_top_k_)
    return with_loss<typename CachedTeacher<D, T>::targets_type>(top_k_terms().terms, [&](const auto& loss) {
      return teacher_loss(model, *held_out_top_k_, held_out_, loss, settings);
    });
  if (s_.models.apart()) return label_loss(model, held_out_, CrossEntropy{}, settings);
  return with_loss<NoTargets>(s_.objective.loss.terms,
                              [&](const auto& loss) { return label_loss(model, held_out_, loss, settings); });
}

KDLIB_NAMESPACE_END

#endif
