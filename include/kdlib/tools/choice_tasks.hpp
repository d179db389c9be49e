// SPDX-License-Identifier: Apache-2.0
// Multiple-choice tasks from local JSON lines with the fields of the original data sets, prompted and scored as
// lm-evaluation-harness does.
#ifndef KDLIB_TOOLS_CHOICE_TASKS_HPP
#define KDLIB_TOOLS_CHOICE_TASKS_HPP

#include <optional>
#include <string>
#include <vector>

#include "kdlib/eval/log_likelihood.hpp"
#include "kdlib/eval/multiple_choice.hpp"
#include "kdlib/io/json.hpp"
#include "kdlib/text/byte_level_bpe.hpp"

KDLIB_NAMESPACE_BEGIN

/// One question as text: log p(continuations[i] | contexts[i]) for each choice.
struct ChoiceDocument {
  std::vector<std::string> contexts, continuations;
  ChoiceKey key;        // gold and the lengths that acc_norm divides by
  std::string subject;  // mmlu
  std::string source;   // "hellaswag.jsonl:12"
};

/// The documents of one multiple-choice task.
struct ChoiceTask {
  std::string name;
  bool normalised = false;  // acc_norm is one of its metrics
  std::vector<ChoiceDocument> documents;
};

/// hellaswag, arc_easy, arc_challenge, winogrande, mmlu.
const std::vector<std::string>& choice_task_names();

/// How many documents and solved examples are read.
struct ChoiceTaskSettings {
  std::int64_t limit = 0;  // first documents of the task (mmlu: of each subject); 0: all
  std::int64_t shots = 0;  // solved examples in front: the first ones of <task>.fewshot.jsonl (mmlu: of the subject)
};

/// Reads <folder>/<task>.jsonl. Prompts, choices and lengths are those of lm-evaluation-harness 0.4 (docs/formats.md).
/// FormatError or InputError name file, line and field.
ChoiceTask read_choice_task(const std::string& name, const std::string& folder,
                            const ChoiceTaskSettings& settings = {});

/// Looks at the files of the tasks of `evaluate` before any model is read: those of multiple choice are read, of others
/// (<task>.jsonl for perplexity and wikitext, held_out.jsonl else) only the path is looked at. IoError: one is not
/// there.
void check_task_files(const std::vector<std::string>& tasks, const std::string& folder,
                      const ChoiceTaskSettings& settings = {});

/// How texts become ids for scoring.
struct ScoringTokens {
  const Tokenizer* tokenizer = nullptr;
  std::int32_t first = 0;           // begins a text without context: what opens every text, else bos, else eos
  std::vector<std::int32_t> begin;  // opens every text; often empty
};

/// White space at the end of the context belongs to the continuation; both are encoded together and cut where the
/// context's own ids end.
ScoredText encode_pair(const ScoringTokens& tokens, std::string context, std::string continuation);
/// The same for every choice of every document.
std::vector<std::vector<ScoredText>> encode_choices(const ScoringTokens& tokens, const ChoiceTask& task);

/// Means of a task's scores; with subjects the pooled ones (pool() of multiple_choice.hpp).
class ChoiceSummary {
 public:
  explicit ChoiceSummary(const ChoiceTask& task) : task_(&task) {}
  /// Scores document i.
  ChoiceScore add(std::size_t i, std::span<const double> log_likelihoods);
  MeanError acc() const { return pooled(0); }
  MeanError acc_norm() const { return pooled(1); }

 private:
  struct Scores {
    std::string subject;
    std::vector<double> values[2];  // acc, acc_norm
  };
  MeanError pooled(int which) const;
  const ChoiceTask* task_;
  std::vector<Scores> scores_;
};

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/choice_tasks_inl.hpp"
#endif

#endif
