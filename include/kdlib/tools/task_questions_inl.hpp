// SPDX-License-Identifier: Apache-2.0
// Bodies of task_evaluation.hpp without template parameters.
#ifndef KDLIB_TOOLS_TASK_QUESTIONS_INL_HPP
#define KDLIB_TOOLS_TASK_QUESTIONS_INL_HPP

#include <algorithm>

#include "kdlib/tools/options.hpp"
#include "kdlib/tools/task_evaluation.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_TOOLS_FUNC ScoringTokens scoring_tokens(const std::optional<Tokenizer>& tokenizer, const DecoderConfig& config,
                                              const std::string& model, const std::string& bos) {
  ScoringTokens tokens;
  std::optional<std::int32_t> first;
  if (tokenizer) {
    tokens.tokenizer = &*tokenizer;
    first = tokenizer->bos_id() ? tokenizer->bos_id() : tokenizer->eos_id();
    if (bos == "auto") tokens.begin = tokenizer->prefix_ids();
    if (!tokens.begin.empty()) first = tokens.begin.front();
  }
  if (!first && !config.bos_ids.empty()) first = config.bos_ids.front();
  if (!first && !config.eos_ids.empty()) first = config.eos_ids.front();
  require<ConfigError>(first.has_value(), "[evaluate] the files of ", model,
                       " name neither a bos nor an eos token, so there is nothing to begin a text with");
  tokens.first = *first;
  if (tokenizer && bos == "on") tokens.begin = {*first};
  return tokens;
}

KDLIB_TOOLS_FUNC TaskEvaluation::TaskEvaluation(const std::vector<std::string>& tasks, const std::string& folder,
                                                std::int64_t limit, const ScoringTokens& tokens) {
  const std::vector<std::string>& known = choice_task_names();
  for (const std::string& name : tasks) {
    std::string names;
    for (const std::string& other : known) names += (names.empty() ? "" : ", ") + other;
    require<UsageError>(std::find(known.begin(), known.end(), name) != known.end(), "there is no task ", name,
                        "; a run can evaluate ", names);
    Questions& questions = list_.emplace_back(Questions{read_choice_task(name, folder, {.limit = limit}), {}});
    questions.texts = encode_choices(tokens, questions.task);
  }
}

KDLIB_NAMESPACE_END

#endif
