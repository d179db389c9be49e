// SPDX-License-Identifier: Apache-2.0
// Scores multiple-choice tasks again and again on one model: before, during and after a distillation.
#ifndef KDLIB_TOOLS_TASK_EVALUATION_HPP
#define KDLIB_TOOLS_TASK_EVALUATION_HPP

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kdlib/model/decoder_config.hpp"
#include "kdlib/tools/choice_tasks.hpp"

KDLIB_NAMESPACE_BEGIN

/// Returns how texts for a model are turned into ids. The token that begins a text without context is the bos of the
/// tokenizer, or else its eos, or else a token of the model's configuration. `bos` says whether a bos opens every text:
/// auto (as the tokenizer's files say), on or off. Without a tokenizer only ScoringTokens::first is set. ConfigError,
/// naming `model`: there is no such token.
ScoringTokens scoring_tokens(const std::optional<Tokenizer>& tokenizer, const DecoderConfig& config,
                             const std::string& model, const std::string& bos = "auto");

/// The questions of some tasks, which are read and encoded once.
class TaskEvaluation {
 public:
  /// Reads `tasks` (names of choice_task_names()) from `folder`; of each task `limit` documents, or all if `limit` is
  /// 0. UsageError: a task is unknown.
  TaskEvaluation(const std::vector<std::string>& tasks, const std::string& folder, std::int64_t limit,
                 const ScoringTokens& tokens);

  /// Scores a model. Returns acc of each task, and acc_norm if the task has this metric: {"hellaswag/acc_norm", 0.41}.
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
