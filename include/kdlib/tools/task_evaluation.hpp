// SPDX-License-Identifier: Apache-2.0
// Multiple-choice tasks scored again and again on one model: during a distillation, before, between and after.
#ifndef KDLIB_TOOLS_TASK_EVALUATION_HPP
#define KDLIB_TOOLS_TASK_EVALUATION_HPP

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kdlib/model/decoder_config.hpp"
#include "kdlib/tools/choice_tasks.hpp"

KDLIB_NAMESPACE_BEGIN

/// How texts for a model become ids: the token that begins a text without context is the tokenizer's bos, else its eos,
/// else the model's own. `bos`: auto (as the tokenizer's files say), on or off, whether it opens every text. Without a
/// tokenizer only `first` is set. ConfigError names `model` where there is no such token.
ScoringTokens scoring_tokens(const std::optional<Tokenizer>& tokenizer, const DecoderConfig& config,
                             const std::string& model, const std::string& bos = "auto");

/// The questions of some tasks, read and encoded once.
class TaskEvaluation {
 public:
  /// `tasks` of choice_task_names(), read from `folder`; `limit` documents of each, 0: all. UsageError: an unknown
  /// task.
  TaskEvaluation(const std::vector<std::string>& tasks, const std::string& folder, std::int64_t limit,
                 const ScoringTokens& tokens);

  /// acc of each task and acc_norm where it has one: {"hellaswag/acc_norm", 0.41}.
  template <class Model>
  std::vector<std::pair<std::string, double>> operator()(Model& model) const;

 private:
  struct Questions {
    ChoiceTask task;
    std::vector<std::vector<ScoredText>> texts;
  };
  std::vector<Questions> list_;
};

KDLIB_NAMESPACE_END

#include "kdlib/tools/task_evaluation_inl.hpp"
#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/task_questions_inl.hpp"
#endif

#endif
