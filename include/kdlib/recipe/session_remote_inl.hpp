// SPDX-License-Identifier: Apache-2.0
// Bodies of recipe/session.hpp: a teacher on other machines.
#ifndef KDLIB_RECIPE_SESSION_REMOTE_INL_HPP
#define KDLIB_RECIPE_SESSION_REMOTE_INL_HPP

#include "kdlib/core/settings_error.hpp"
#include "kdlib/recipe/session.hpp"

KDLIB_NAMESPACE_BEGIN

template <class D, class T>
RemoteTeacherSettings Session<D, T>::remote_settings(const std::string& urls,
                                                     const std::optional<Tokenizer>& tokenizer) const {
  const RecipeModels& models = s_.models;
  RemoteTeacherSettings r;
  r.urls = split_urls(urls);
  r.dialect = models.remote.dialect;
  r.model = models.remote.model;
  r.key_environment = models.remote.key;
  r.in_flight = models.remote.in_flight;
  r.precision = models.remote.precision;
  r.seed = s_.seed;
  r.vocabulary = student_->vocab_size();
  if (tokenizer) r.vocabulary = std::min<std::int64_t>(r.vocabulary, tokenizer->vocab_size());
  if (models.cache.top_k > 0) r.top_k = models.cache.top_k;
  if (r.dialect == Dialect::automatic) r.dialect = find_dialect(r);
  return r;
}

/// What is asked of servers before the first step.
template <class D, class T>
void Session<D, T>::probe(RemoteClient& client, const std::optional<Tokenizer>& tokenizer) {
  const RemoteProbe probe{tokenizer ? &*tokenizer : nullptr, student_->vocab_size(),
                          stop_ids_of(s_.models.student_path(), tokenizer, student_->config().eos_ids)};
  for (const std::string& text : probe_remote_teacher(client, probe)) note(text);
}

/// Servers give log-probabilities at temperature 1.
template <class D, class T>
void Session<D, T>::check_top_k_temperature(std::int64_t top_k) const {
  const double temperature = top_k_temperature(top_k_terms());
  require<SettingsError>(temperature == 0 || temperature == 1, "[distil] the loss has temperature ",
                         setting_text(temperature),
                         ", and servers give log-probabilities at temperature 1: a softmax at another one cannot be "
                         "made from ",
                         top_k, " tokens");
}

/// Asks the servers and chooses what of a row they send: hidden states where they can, unless the loss reads less.
template <class D, class T>
void Session<D, T>::open_remote(const std::optional<Tokenizer>& tokenizer) {
  const RemoteTeacherSettings r = remote_settings(s_.models.teacher, tokenizer);
  const LossExpression& loss = s_.objective.loss;
  const auto take = [&](RemoteClient& client, const std::string& what) {
    probe(client, tokenizer);
    other_name_ = client.name();
    note(concat("the teacher is ", other_name_, " (", setting_text(r.dialect), "): ", what));
  };
  if (detail::reads_tokens_alone(loss)) {
    RemoteTeacher<SampledTargets> teacher(r);
    take(teacher.client(), "its log-probability of each token");
    other_sampled_.emplace(std::move(teacher));
  } else if (r.dialect == Dialect::kdlib && s_.models.cache.top_k == 0) {
    checking_settings([&] { require_targets(LossNeeds::vocabulary, loss.terms); });
    RemoteTeacher<HiddenTargets<T, D>> teacher(r);
    take(teacher.client(), "its hidden states and its head");
    if (teacher.vocab_size() != student_->vocab_size()) {
      teacher.set_real_vocabulary(r.vocabulary);
      student_->set_real_vocabulary(r.vocabulary);
    }
    other_hidden_.emplace(std::move(teacher));
  } else {
    checking_settings([this] { require_targets(LossNeeds::top_k, top_k_terms().terms); });
    check_top_k_temperature(r.top_k);
    RemoteTeacher<typename TopKTeacher::targets_type> teacher(r);
    take(teacher.client(), concat("its ", r.top_k, " most probable tokens"));
    student_->set_real_vocabulary(r.vocabulary);
    other_top_k_.emplace(std::move(teacher));
  }
}

KDLIB_NAMESPACE_END

#endif
