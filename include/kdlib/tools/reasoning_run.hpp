// SPDX-License-Identifier: Apache-2.0
// Trains a student on texts with thoughts in three stages: the program vpmoe_student --stage.
#ifndef KDLIB_TOOLS_REASONING_RUN_HPP
#define KDLIB_TOOLS_REASONING_RUN_HPP

#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "kdlib/checkpoint/load.hpp"
#include "kdlib/checkpoint/save.hpp"
#include "kdlib/model/decoder.hpp"
#include "kdlib/recipe/canary.hpp"
#include "kdlib/tools/output_lock.hpp"
#include "kdlib/tools/progress.hpp"
#include "kdlib/tools/reasoning_settings.hpp"
#include "kdlib/tools/reasoning_source.hpp"
#include "kdlib/tools/stop_signals.hpp"
#include "kdlib/train/run.hpp"

KDLIB_NAMESPACE_BEGIN

/// Evaluates a student between steps: held-out rows, answers to held-out questions, and canary lines (texts that show
/// whether the student forgets).
template <class Model>
class ReasoningEvaluation {
 public:
  ReasoningEvaluation(const ReasoningSettings& s, const Tokenizer& tokenizer, const TokenShards& train,
                      std::function<void(const std::string&)> message);

  /// Returns "evaluation/synth_reasoning" and "evaluation/synth_final" (the losses of thoughts and answers),
  /// "evaluation/synth_loss" (their weighted sum, the loss of stage 1), "evaluation/valid" (share of valid answers)
  /// and, if they are due, "evaluation/canary_...".
  Evaluation operator()(Model& student, std::int64_t step);
  void remember_start(Model& student);

 private:
  void add_rows(Model& student, Evaluation& out);
  void add_answers(Model& student, Evaluation& out);
  void add_canary(Model& student, Evaluation& out);

  const ReasoningSettings& s_;
  RolloutForm form_;
  std::vector<StoredDocument> rows_;
  std::vector<std::vector<std::int32_t>> questions_;
  CanaryLines canary_;
  double canary_start_ = 0, best_valid_ = 0;
  std::function<void(const std::string&)> message_;
};

/// The whole run. OUT/stage1, OUT/stage2 and OUT/stage3 hold metrics.jsonl, checkpoints/ and, when the stage is done,
/// model/. OUT/rescored holds the parts of stage 2a, and OUT/report.html the curves of all stages. A rerun skips a
/// stage that is done and continues one that was interrupted, together with the texts that the student was writing
/// (checkpoints/N/rollouts.*).
template <class D, class T>
class ReasoningRun {
 public:
  using Model = Decoder<D, T>;
  explicit ReasoningRun(ReasoningSettings settings);
  /// Runs the stages. Returns 0 if all are done, 128 + N if signal N stopped the run, and 1 if the teacher failed again
  /// and again. Run the program again to continue.
  int run();

 private:
  void make_random_models();
  void make_model(const char* name, const DecoderConfig& config, std::uint64_t seed) const;
  std::string place(const std::string& name) const;
  std::string start_of(int stage) const;
  ScoreDocument scorer();
  void rescore();
  TokenShards open_rescored(const TokenShards& files);
  bool train(int stage);
  AsynchronousSettings rollout_settings() const;
  RunSettings run_settings(int stage, const std::string& start) const;
  RunResult train_with(int stage, Model& student, ReasoningSource<Model>& source, RunSettings settings);
  void write_model(int stage, Model& student, const RunResult& result);
  int stopped_status() const { return signals_.signal() > 0 ? 128 + signals_.signal() : 1; }
  void note(const std::string& text) { progress_.note("note: " + text); }

  ReasoningSettings s_;
  bool teacher_known_;  // true if the teacher is given or this command scores, so that stage 2b can check whose parts
                        // it reads
  Progress progress_;
  StopSignals signals_;
  std::optional<Tokenizer> tokenizer_;
  std::shared_ptr<ScoredTexts> scored_ = std::make_shared<ScoredTexts>();
  std::optional<Model> teacher_;
};

/// Writes OUT/report.html: for each stage every metric of the stage's metrics.jsonl, with six curves in each chart.
void write_reasoning_report(const std::string& out);

KDLIB_NAMESPACE_END

#include "kdlib/tools/reasoning_evaluation_inl.hpp"
#include "kdlib/tools/reasoning_run_inl.hpp"
#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/reasoning_questions_inl.hpp"
#endif

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/reasoning_report_inl.hpp"
#endif

#endif
