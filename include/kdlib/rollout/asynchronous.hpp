// SPDX-License-Identifier: Apache-2.0
// A source of text that the student writes and a teacher scores, while the student trains on earlier text.
#ifndef KDLIB_ROLLOUT_ASYNCHRONOUS_HPP
#define KDLIB_ROLLOUT_ASYNCHRONOUS_HPP

#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kdlib/data/indexed_dataset.hpp"
#include "kdlib/data/rescore.hpp"
#include "kdlib/data/scored_texts.hpp"
#include "kdlib/rollout/generate.hpp"
#include "kdlib/rollout/plan_buffer.hpp"
#include "kdlib/rollout/rollout_prompts.hpp"
#include "kdlib/tensor/parameter.hpp"

KDLIB_NAMESPACE_BEGIN

/// Settings of AsynchronousRollouts.
struct AsynchronousSettings {
  PlanBufferSettings plans{};
  CurriculumSettings curriculum{};
  std::int64_t micro_batches = 1;         // batches in a step: RunSettings::micro_batches
  std::int64_t max_prompt_length = 1024;  // tokens; rows with longer prompts are not used
  std::int64_t context_length = 0;        // tokens of prompt and text together; 0: the model's
  std::uint64_t seed = 1;                 // seed of the order of prompts and of the draws
};

/// A RolloutSource. Each step is either an anchor step on given text (IndexedDataset) or trains on the texts of a plan
/// (rollout/plan_buffer.hpp). The prompts of the plan come from token files in a shuffled order; in each prompt the
/// word of its mode stands at the place of its effort. `writer`, a model of the student's shape and weights, writes the
/// texts; it gets a copy of the trained parameters whenever they are published. `score` scores the texts. The random
/// numbers of a text are those of (seed, sample_student, ticket, sample). The batch carries behaviour log-probs and
/// spans (0 thought, 1 answer); ScoredTexts carries the teacher's log-probs. Train with Objective{ScoredTeacher,
/// AnchoredPolicyGradient} and RunSettings::spans {reasoning, final}. Several ranks are refused, since there is no
/// skip().
///
/// A checkpoint must hold the files of save() beside the trainer's files. Call save() in RunHooks::write_files (not for
/// the best state), and call restore() in on_start when a run continues.
/// state) and restore() in on_start, where the run goes on.
template <class Student>
class AsynchronousRollouts {
  using T = typename Student::scalar_type;
  using D = typename Student::device_type;

 public:
  /// `score` is called from one thread beside the trainer's thread; `writer` is used in another one. Throws ConfigError
  /// for token files whose rows name no effort, if no prompt is short enough, and for settings out of range.
  AsynchronousRollouts(Student& writer, ScoreDocument score, IndexedDataset anchor, RolloutForm form,
                       std::shared_ptr<ScoredTexts> scored, AsynchronousSettings settings = {},
                       std::function<void(const std::string&)> message = {});

  std::optional<TokenBatch> next(Student& student);
  SourceCursor cursor() const;
  void seek(const SourceCursor& cursor);
  SourceDescription describe() const;
  /// Returns numbers of the step whose gradient was formed last. "train/kind" is 1 for own text and 0 for given text.
  /// For own text there are also "train/gap/reasoning", "train/gap/final", "train/ratio", "train/mismatch",
  /// "curriculum/fraction", RolloutCounts::metrics() and "buffer/..." (PlanBufferReport).
  std::vector<std::pair<std::string, double>> step_metrics() const;

  void save(const std::string& folder);
  void restore(const std::string& folder) { buffer_->restore(folder); }
  PlanBuffer& buffer() { return *buffer_; }
  /// Number of tokens of own text that were trained on.
  std::int64_t tokens() const { return tokens_ + (taken_is_trained() ? taken_tokens_ : 0); }

 private:
  using Weights = std::vector<Tensor<T, D>>;

  std::vector<std::int32_t> prompt_of(const RolloutTicket& ticket, ShuffledOrder& order) const;
  RolloutWork work(ScoreDocument score, std::function<void(const std::string&)> message);
  void take_weights(std::int64_t version);
  void write(std::span<const RolloutTicket> tickets, const RolloutWork::Done& done);
  void publish(Student& student, std::int64_t step);
  void finish_taken();
  bool taken_is_trained() const { return taken_ >= 0 && batches_ == (taken_ + 1) * settings_.micro_batches; }
  std::optional<TokenBatch> anchor_batch();
  TokenBatch batch_of(const RolloutPlan& plan);
  void measure(const RolloutPlan& plan);

  Student& writer_;
  IndexedDataset anchor_;
  RolloutForm form_;
  std::shared_ptr<ScoredTexts> scored_;
  AsynchronousSettings settings_;
  Curriculum curriculum_;
  RolloutPrompts prompts_;
  ShuffledOrder writer_order_, trainer_order_;
  std::mutex weights_mutex_;
  std::vector<std::pair<std::int64_t, std::shared_ptr<const Weights>>> weights_;  // in order of versions
  std::int64_t batches_ = 0, taken_ = -1, tokens_ = 0, taken_tokens_ = 0;
  double taken_at_ = 0;  // steady_seconds()
  TokenBatch plan_batch_;
  std::vector<std::pair<std::string, double>> metrics_;
  std::unique_ptr<PlanBuffer> buffer_;  // last member: its threads use the others
};

KDLIB_NAMESPACE_END

#include "kdlib/rollout/asynchronous_inl.hpp"

#endif
