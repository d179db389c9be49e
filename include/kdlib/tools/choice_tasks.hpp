// SPDX-License-Identifier: Apache-2.0
// Multiple-choice tasks, read from local JSON lines with the fields of the original data sets. Prompts and scores are
// those of lm-evaluation-harness.
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

/// One question as text. The score of choice i is log p(continuations[i] | contexts[i]).
struct ChoiceDocument {
  std::vector<std::string> contexts, continuations;
  ChoiceKey key;        // the right choice, and the lengths by which acc_norm divides
  std::string subject;  // for mmlu only
  std::string source;   // "hellaswag.jsonl:12"
};

/// The documents of one multiple-choice task.
struct ChoiceTask {
  std::string name;
  bool normalised = false;  // true: acc_norm is one of the task's metrics
  std::vector<ChoiceDocument> documents;
};

/// Returns the names of the known tasks: hellaswag, arc_easy, arc_challenge, winogrande, mmlu.
const std::vector<std::string>& choice_task_names();

/// The numbers of documents and of solved examples that are read.
struct ChoiceTaskSettings {
  std::int64_t limit = 0;  // number of first documents of the task (mmlu: of each subject); 0: all
  std::int64_t shots = 0;  // number of solved examples in front of a question: the first ones of <task>.fewshot.jsonl
                           // (mmlu: of the subject)
};

/// Reads <folder>/<task>.jsonl. Prompts, choices and lengths are those of lm-evaluation-harness 0.4 (docs/formats.md).
/// FormatError or InputError name file, line and field.
ChoiceTask read_choice_task(const std::string& name, const std::string& folder,
                            const ChoiceTaskSettings& settings = {});

/// Looks at the files of the tasks of `evaluate` before any model is read. Files of multiple-choice tasks are read; of
/// the other tasks (<task>.jsonl for perplexity and wikitext, else held_out.jsonl) only the path is looked at. IoError:
/// a file is not there.
void check_task_files(const std::vector<std::string>& tasks, const std::string& folder,
                      const ChoiceTaskSettings& settings = {});

/// How texts are turned into ids for scoring.
struct ScoringTokens {
  const Tokenizer* tokenizer = nullptr;
  /// The id with which a text without context begins: the token that opens every text, or else bos, or else eos.
  std::int32_t first = 0;
  std::vector<std::int32_t> begin;  // ids that open every text; often empty
};

/// Encodes a context and its continuation. White space at the end of the context is moved to the continuation. Both are
/// encoded together and cut where the ids of the context alone would end.
ScoredText encode_pair(const ScoringTokens& tokens, std::string context, std::string continuation);
/// Encodes every choice of every document.
std::vector<std::vector<ScoredText>> encode_choices(const ScoringTokens& tokens, const ChoiceTask& task);

/// The means of a task's scores. For a task with subjects these are the pooled means (pool() of multiple_choice.hpp).
class ChoiceSummary {
 public:
  explicit ChoiceSummary(const ChoiceTask& task) : task_(&task) {}
  /// Adds and returns the score of document i, given the log-likelihood of each choice.
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
