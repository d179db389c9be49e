// SPDX-License-Identifier: Apache-2.0
// Bodies of recipe/session.hpp: several teachers, each for the lines that name it.
#ifndef KDLIB_RECIPE_SESSION_NAMED_INL_HPP
#define KDLIB_RECIPE_SESSION_NAMED_INL_HPP

#include <algorithm>

#include "kdlib/core/settings_error.hpp"
#include "kdlib/io/paths.hpp"
#include "kdlib/recipe/session.hpp"
#include "kdlib/recipe/session_remote_inl.hpp"

KDLIB_NAMESPACE_BEGIN

template <class D, class T>
void Session<D, T>::open_named_model(Named& named, const std::string& path, const std::optional<Tokenizer>& tokenizer) {
  note(concat("loading ", path, ", the teacher ", named.name));
  Model& model =
      named_models_.emplace_back(Model::from_pretrained(path, {.trainable = false, .weights = frozen_storage<D>}));
  for (const std::string& text : model.notes()) note(text);
  model.fold_cores();
  const std::optional<Tokenizer> theirs = find_model_tokenizer(path);
  const SharedVocabulary shared = share_vocabulary({model.vocab_size(), theirs ? &*theirs : nullptr},
                                                   {student_->vocab_size(), tokenizer ? &*tokenizer : nullptr});
  for (const std::string& text : shared.notes) note(concat("teacher ", named.name, ": ", text));
  named.model = &model;
  named.ids = shared.ids;
}

template <class D, class T>
void Session<D, T>::open_named_cache(Named& named, const std::string& folder,
                                     const std::optional<Tokenizer>& tokenizer) {
  const detail::OpenedCache& cache = named_caches_.emplace_back(detail::OpenedCache::open(folder));
  CacheUse use;
  use.vocabulary = student_->vocab_size();
  if (tokenizer) use.tokenizer = tokenizer_hash(*tokenizer);
  const std::int64_t shared = tokenizer ? shared_with_cache(cache.files(), *tokenizer, use) : 0;
  cache.files().check(use);
  const CacheFacts& facts = cache.files().meta().facts;
  const bool padded = facts.vocabulary != student_->vocab_size();  // by one tokenizer: check() has compared
  named.ids = shared > 0 ? shared : std::min(facts.columns(), student_->vocab_size());
  if (shared == 0 && padded) named.ids = std::min<std::int64_t>(named.ids, tokenizer->vocab_size());
  named.cache = &cache;
  named.text = detail::cache_text(cache.files());
}

template <class D, class T>
typename Session<D, T>::Named Session<D, T>::open_one_named(const RecipeNamedTeacher& place,
                                                            const std::optional<Tokenizer>& tokenizer) {
  Named named{place.name, place.place, place.place};
  try {
    if (place.is_remote()) {
      named.remote = remote_settings(place.place, tokenizer);
      named.ids = named.remote->vocabulary;
    } else if (path_exists(join_path(place.place, "meta.json"))) {
      open_named_cache(named, place.place, tokenizer);
    } else {
      open_named_model(named, place.place, tokenizer);
    }
  } catch (const SettingsError&) {
    throw;
  } catch (const ConfigError& error) {
    fail<ConfigError>("[distil] --teachers ", place.name, "=", place.place, ": ", error.what());
  }
  return named;
}

/// Which line has which teacher. A line that names nobody, or somebody who is not there, is refused before anything is
/// written.
template <class D, class T>
void Session<D, T>::read_teacher_names() {
  std::vector<std::string> names;
  for (const Named& named : named_) names.push_back(named.name);
  teacher_names_ = TeacherNames(s_.models.otherwise);
  TeacherNames asked(s_.models.otherwise);
  const RecipeText& text = s_.text;
  if (text.writes()) asked.read(text.prompts.path);
  for (const std::string* path : {&text.data.path, &text.prompts.path, &text.validation.path})
    if (!path->empty() && (path != &text.prompts.path || text.writes())) teacher_names_.read(*path);
  teacher_names_.require_among(names);
  for (const Named& named : named_) {
    require<ConfigError>(named.cache == nullptr || asked.count(named.name) == 0, "[distil] prompts ask for ",
                         named.name, ", which is a cache (", named.text,
                         "): nothing marks the text that the student writes; give a model or servers");
    const std::int64_t lines = teacher_names_.count(named.name);
    note(concat("the teacher ", named.name, " is ", named.text, ": ", lines, lines == 1 ? " line" : " lines"));
    other_name_ += concat(other_name_.empty() ? "" : ", ", named.name, ": ", named.text);
  }
}

template <class D, class T>
const typename Session<D, T>::Named& Session<D, T>::named_of(const std::string& source) const {
  TokenBatch one;
  one.append(std::vector<std::int32_t>{0});
  one.sources = {source};
  const std::string& name = teacher_names_.of(one, 0);
  return *std::find_if(named_.begin(), named_.end(), [&](const Named& named) { return named.name == name; });
}

template <class D, class T>
void Session<D, T>::take_hidden(Named& named, const std::optional<Tokenizer>& tokenizer) {
  const std::int64_t ids = named.ids;
  if (named.model != nullptr) {
    named.model->set_real_vocabulary(ids);
    named.hidden.emplace(LiveTeacher<Model>{*named.model});
  } else if (named.cache != nullptr) {
    CachedHiddenTeacher<D, T> teacher(*named.cache->hidden);
    teacher.set_real_vocabulary(ids);
    named.hidden.emplace(std::move(teacher));
  } else {
    RemoteTeacher<HiddenTargets<T, D>> teacher(*named.remote);
    probe(teacher.client(), tokenizer);
    teacher.set_real_vocabulary(ids);
    named.text = teacher.client().name();
    named.hidden.emplace(std::move(teacher));
  }
}

template <class D, class T>
void Session<D, T>::take_top_k(Named& named, const TopKOfSettings& how, const std::optional<Tokenizer>& tokenizer) {
  if (named.remote) {
    check_top_k_temperature(how.top_k);
    named.remote->top_k = how.top_k;
    RemoteTeacher<typename TopKTeacher::targets_type> teacher(*named.remote);
    probe(teacher.client(), tokenizer);
    named.text = teacher.client().name();
    named.top_k.emplace(std::move(teacher));
  } else if (named.cache != nullptr && named.cache->top_k) {
    const bool cut = named.ids < named.cache->files().meta().facts.columns();
    named.top_k.emplace(CachedTeacher<D, T>(
        *named.cache->top_k,
        {.temperature = how.temperature, .top_k = how.top_k, .real_vocabulary = cut ? named.ids : 0}));
  } else {
    take_hidden(named, tokenizer);
    named.top_k.emplace(TopKOf<AnyHiddenTeacher<D, T>>(std::move(*named.hidden), how));
    named.hidden.reset();
  }
}

template <class D, class T>
void Session<D, T>::take_sampled(Named& named, const std::optional<Tokenizer>& tokenizer) {
  RemoteTeacher<SampledTargets> teacher(*named.remote);
  probe(teacher.client(), tokenizer);
  named.text = teacher.client().name();
  named.sampled.emplace(std::move(teacher));
}

/// All give the same number of tokens at the same temperature: what is asked for, else as many as all have.
template <class D, class T>
TopKOfSettings Session<D, T>::named_top_k_settings() const {
  TopKOfSettings how;
  how.workspace_bytes = std::int64_t{s_.training.workspace} << 20;
  const double temperature = top_k_temperature(top_k_terms());
  if (temperature > 0) how.temperature = temperature;
  how.top_k = std::min(how.top_k, student_->vocab_size());
  const bool caches = std::all_of(named_.begin(), named_.end(),
                                  [](const Named& n) { return n.cache != nullptr && n.cache->top_k.has_value(); });
  if (caches) how.top_k = std::numeric_limits<std::int64_t>::max();
  for (const Named& named : named_)
    if (named.cache != nullptr && named.cache->top_k)
      how.top_k = std::min(how.top_k, named.cache->files().meta().settings.top_k);
  if (s_.models.cache.top_k > 0) how.top_k = s_.models.cache.top_k;
  return how;
}

/// Wrapped so that heads with other padding may stand side by side: the ids that are shared were compared.
template <class D, class T>
template <class Targets>
AnyTeacher<Targets> Session<D, T>::by_row(std::vector<std::pair<std::string, AnyTeacher<Targets>>> teachers) const {
  struct Compared : AnyTeacher<Targets> {
    Compared(AnyTeacher<Targets> teacher, std::int64_t count) : AnyTeacher<Targets>(std::move(teacher)), ids(count) {}
    std::int64_t vocab_size() const { return ids; }
    std::int64_t ids;
  };
  std::vector<std::pair<std::string, Compared>> all;
  for (auto& [name, teacher] : teachers) all.emplace_back(name, Compared(std::move(teacher), named_.front().ids));
  return AnyTeacher<Targets>(TeacherByRow<Compared>(std::move(all), teacher_names_));
}

/// Hidden states where all have them, unless the loss reads less or the most probable tokens are asked for.
template <class D, class T>
void Session<D, T>::choose_named_targets(const std::optional<Tokenizer>& tokenizer) {
  const LossExpression& loss = s_.objective.loss;
  const auto all_give = [this](RemoteWant want) {
    return std::all_of(named_.begin(), named_.end(), [want](const Named& named) { return named.gives(want); });
  };
  const auto each = [this](auto&& take, auto member) {
    using Teacher = typename std::remove_reference_t<decltype(named_.front().*member)>::value_type;
    std::vector<std::pair<std::string, Teacher>> teachers;
    for (Named& named : named_) {
      take(named);
      teachers.emplace_back(named.name, *(named.*member));
    }
    return teachers;
  };
  if (detail::reads_tokens_alone(loss) && all_give(RemoteWant::sampled)) {
    other_sampled_.emplace(
        by_row<SampledTargets>(each([&](Named& n) { take_sampled(n, tokenizer); }, &Named::sampled)));
  } else if (s_.models.cache.top_k == 0 && all_give(RemoteWant::hidden)) {
    checking_settings([&] { require_targets(LossNeeds::vocabulary, loss.terms); });
    other_hidden_.emplace(
        by_row<HiddenTargets<T, D>>(each([&](Named& n) { take_hidden(n, tokenizer); }, &Named::hidden)));
  } else {
    checking_settings([this] { require_targets(LossNeeds::top_k, top_k_terms().terms); });
    const TopKOfSettings how = named_top_k_settings();
    note(concat("of every teacher the ", how.top_k, " most probable tokens are taken"));
    other_top_k_.emplace(by_row<typename TopKTeacher::targets_type>(
        each([&](Named& n) { take_top_k(n, how, tokenizer); }, &Named::top_k)));
  }
}

template <class D, class T>
void Session<D, T>::open_named(const std::optional<Tokenizer>& tokenizer) {
  for (const RecipeNamedTeacher& place : s_.models.named_teachers()) named_.push_back(open_one_named(place, tokenizer));
  const auto fewest =
      std::min_element(named_.begin(), named_.end(), [](const Named& a, const Named& b) { return a.ids < b.ids; });
  const std::int64_t ids = fewest->ids;
  for (const Named& named : named_)
    if (named.ids != ids) {
      note(concat("the first ", ids, " ids are compared: the teacher ", fewest->name, " has no more"));
      break;
    }
  for (Named& named : named_) {
    named.ids = ids;
    if (named.remote) named.remote->vocabulary = ids;
  }
  student_->set_real_vocabulary(ids);
  read_teacher_names();
  choose_named_targets(tokenizer);
}

/// Held-out text is compared with the teachers of its lines where each of them can tell.
template <class D, class T>
void Session<D, T>::find_named_held_out() {
  for (std::int64_t b = 0; b < held_out_.documents(); ++b) {
    const Named& named = named_of(held_out_.sources[static_cast<std::size_t>(b)]);
    if (named.cache == nullptr || named.cache->files().holds(held_out_.document(b))) continue;
    held_out_teacher_.reset();
    held_out_top_k_.reset();
    note(concat(named.cache->files().folder(), " does not hold the held-out text of the teacher ", named.name,
                ": perplexity alone is measured"));
    return;
  }
  if (!other_hidden_) return;
  std::vector<std::pair<std::string, AnyHiddenTeacher<D, T>>> teachers;
  for (const Named& named : named_)
    teachers.emplace_back(named.name, named.model != nullptr
                                          ? AnyHiddenTeacher<D, T>(RememberedTeacher<Model>{*named.model})
                                          : *named.hidden);
  held_out_teacher_.emplace(by_row<HiddenTargets<T, D>>(std::move(teachers)));
}

KDLIB_NAMESPACE_END

#endif
