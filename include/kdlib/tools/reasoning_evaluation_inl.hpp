// SPDX-License-Identifier: Apache-2.0
// What reasoning_run.hpp measures between steps.
#ifndef KDLIB_TOOLS_REASONING_EVALUATION_INL_HPP
#define KDLIB_TOOLS_REASONING_EVALUATION_INL_HPP

#include <algorithm>
#include <cmath>

#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/json.hpp"
#include "kdlib/tools/reasoning_run.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {
/// A question in the frame of the token files: the ids of another prompt with this question in place of its own.
std::vector<std::int32_t> ask_like(std::vector<std::int32_t> prompt, std::size_t end_length, const Tokenizer& tokenizer,
                                   std::string_view question);
/// The same in the frame of a chat template, with the system turn of the token files.
std::vector<std::int32_t> ask_by_template(const TokenShards& files, const Tokenizer& tokenizer,
                                          std::string_view question);
}  // namespace detail

template <class Model>
ReasoningEvaluation<Model>::ReasoningEvaluation(const ReasoningSettings& s, const Tokenizer& tokenizer,
                                                const TokenShards& train,
                                                std::function<void(const std::string&)> message)
    : s_(s), form_(RolloutForm::of(train, tokenizer)), message_(std::move(message)) {
  if (s.evaluate_every > 0) {
    const TokenShards valid = TokenShards::open(s.data, "valid");
    for (std::int64_t d = 0; d < std::min(s.evaluate_documents, valid.documents()); ++d)
      valid.get(d, rows_.emplace_back());
    if (s.evaluate_prompts > 0) {
      const RolloutPrompts prompts(valid, form_.prompt_end, s.max_prompt_length);
      for (std::int64_t i = 0; i < std::min(s.evaluate_prompts, prompts.count()); ++i)
        questions_.push_back(prompts.at(i, ReasoningMode::medium));
    }
  }
  if (s.canary.empty()) return;
  if (!train.chat_template().empty()) {
    canary_ = read_canary(s.canary, tokenizer, [&](std::string_view question) {
      return detail::ask_by_template(train, tokenizer, question);
    });
    return;
  }
  const std::vector<std::int32_t> like =
      RolloutPrompts(train, form_.prompt_end, s.max_prompt_length).at(0, ReasoningMode::medium);
  canary_ = read_canary(s.canary, tokenizer, [&](std::string_view question) {
    return detail::ask_like(like, form_.prompt_end.size(), tokenizer, question);
  });
}

template <class Model>
void ReasoningEvaluation<Model>::remember_start(Model& student) {
  const std::string path = join_path(s_.out, "canary.json");
  if (canary_.texts.empty()) return;
  if (!path_exists(path)) {
    const double loss = evaluate_canary(student, {canary_.texts, {}}, {}).loss;
    write_file_atomically(path, concat("{\"start_loss\":", setting_text(loss), "}\n"));
  }
  canary_start_ = Json::parse_file(path).at("start_loss").as_double();
}

template <class Model>
Evaluation ReasoningEvaluation<Model>::operator()(Model& student, std::int64_t step) {
  Evaluation out;
  const auto due = [step](std::int64_t every) { return every > 0 && step % every == 0; };
  if (!rows_.empty()) add_rows(student, out);
  if (!questions_.empty()) add_answers(student, out);
  if (!s_.canary.empty() && (s_.canary_every == 0 || due(s_.canary_every))) add_canary(student, out);
  return out;
}

template <class Model>
void ReasoningEvaluation<Model>::add_rows(Model& student, Evaluation& out) {
  TokenBatch batch;
  for (const StoredDocument& d : rows_) batch.append(d.ids);
  const std::vector<double> log_probs = token_log_probs(student, batch);
  double sum[2] = {0, 0}, count[2] = {0, 0};
  std::size_t at = 0;
  for (const StoredDocument& d : rows_)
    for (std::size_t t = 0; t + 1 < d.ids.size(); ++t, ++at)
      if (d.loss[t] != 0 && d.span[t] > 0) sum[d.span[t] - 1] -= log_probs[at], count[d.span[t] - 1] += 1;
  const std::vector<double> weights = reasoning_numbers("span-weights", s_.span_weights, 2, 0);
  double loss = 0;
  for (const std::size_t s : {0u, 1u}) {
    if (count[s] == 0) continue;
    loss += weights[s] * sum[s] / count[s];
    out.values.emplace_back(s == 0 ? "evaluation/synth_reasoning" : "evaluation/synth_final", sum[s] / count[s]);
  }
  out.values.emplace_back("evaluation/synth_loss", loss);
  out.best_by = loss;
}

template <class Model>
void ReasoningEvaluation<Model>::add_answers(Model& student, Evaluation& out) {
  const Sampler sampler{.max_new_tokens = s_.evaluate_tokens, .seed = s_.seed, .stop_ids = form_.stop_ids};
  // A purpose of their own: rollouts draw with sample_student, and nothing here draws as a teacher.
  const GenerateSettings how{.purpose = RngPurpose::sample_teacher};
  double valid = 0;
  for (const Completion& c : generate(student, questions_, sampler, how))
    valid += c.stopped && form_.valid(c.ids) ? 1 : 0;
  out.values.emplace_back("evaluation/valid", valid / static_cast<double>(questions_.size()));
}

template <class Model>
void ReasoningEvaluation<Model>::add_canary(Model& student, Evaluation& out) {
  const CanaryReport r = evaluate_canary(student, canary_, {.stop_ids = form_.stop_ids, .valid = form_.valid});
  const double ratio = canary_start_ > 0 ? r.loss / canary_start_ : std::nan("");
  const std::pair<const char*, double> values[] = {
      {"loss", r.loss}, {"ratio", ratio}, {"valid", r.valid}, {"length", r.length}, {"repeat", r.repeat}};
  for (const auto& [name, value] : values)
    if (std::isfinite(value)) out.values.emplace_back(concat("evaluation/canary_", name), value);
  if (ratio > 1.1)
    message_(concat("the canary texts' loss is ", setting_text(ratio),
                    " times what it was at the start: the student "
                    "forgets"));
  if (r.valid < 0.9 * best_valid_)
    message_(concat("answers to canary questions are valid in ", setting_text(r.valid), " of all cases, and were in ",
                    setting_text(best_valid_)));
  if (r.valid > best_valid_) best_valid_ = r.valid;
}

KDLIB_NAMESPACE_END

#endif
