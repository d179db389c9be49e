// SPDX-License-Identifier: Apache-2.0
// The settings of a training run, what the run tells its caller while it trains, and its result.
#ifndef KDLIB_TRAIN_RUN_HPP
#define KDLIB_TRAIN_RUN_HPP

#include <atomic>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "kdlib/core/stop.hpp"
#include "kdlib/optim/concepts.hpp"
#include "kdlib/train/ranks.hpp"
#include "kdlib/train/spans.hpp"

KDLIB_NAMESPACE_BEGIN

/// What a run reports after each step.
struct StepReport {
  std::int64_t step = 0;     // steps done, this one included
  std::int64_t steps = 0;    // steps of the run; in a pipeline, steps up to the end of this stage
  double loss = 0;           // mean over the rows, weighted by the row weights
  double gradient_norm = 0;  // norm of the whole gradient before clipping
  double rate = 0;
  double tokens = 0;  // sum of the row weights of this step
  double tokens_per_s = 0;
  double step_seconds = 0;
  double seconds = 0;    // time spent in run(), earlier attempts included
  bool skipped = false;  // true if the step had no row of weight above 0, so that no update was made
};

/// The result of an evaluation. `values` go to the metric sink under their names ("evaluation/forward_kl"). The state
/// with the lowest `best_by` is kept as the best state; an evaluation whose `best_by` is NaN is not considered.
struct Evaluation {
  std::vector<std::pair<std::string, double>> values;
  double best_by = std::numeric_limits<double>::quiet_NaN();
};

/// Functions that a program may override to act while a run goes on. No function changes the training itself, but
/// finish_reason() and a StopRequested from evaluate() can end the run early.
class RunHooks {
 public:
  virtual ~RunHooks() = default;
  /// Called once before the first step. `step` is where the run starts (0: from the beginning), `steps` where it will
  /// end.
  virtual void on_start(std::int64_t step, std::int64_t steps) { static_cast<void>(step), static_cast<void>(steps); }
  virtual void on_step(const StepReport& report) { static_cast<void>(report); }
  /// Called after on_step. If it returns true, a checkpoint of this step is saved, whatever `save_every` says.
  virtual bool wants_checkpoint(const StepReport& report) { return static_cast<void>(report), false; }
  /// Called after on_step. An empty text lets the run go on. Any other text, a sentence, ends the run after this step
  /// as finished. The sentence is stored; a later run with the same store finds a finished run and trains no further
  /// step, whatever its `steps`.
  virtual std::string finish_reason(const StepReport& report) { return static_cast<void>(report), std::string(); }
  /// Called every `evaluate_every` steps and after the last step, if `evaluate_every` is above 0. The result must
  /// depend only on the student and on fixed data, or a resumed run differs. The function may throw StopRequested: the
  /// run then saves its state and ends, and repeats the evaluation when it is started again.
  virtual Evaluation evaluate(std::int64_t step) { return static_cast<void>(step), Evaluation{}; }
  /// Adds files to a checkpoint before the checkpoint becomes visible. If `best` is true, `folder` is that of the best
  /// state, and each file in it must be replaced atomically.
  virtual void write_files(const std::string& folder, std::int64_t step, bool best) {
    static_cast<void>(folder), static_cast<void>(step), static_cast<void>(best);
  }
  /// Called when a checkpoint of this step is complete.
  virtual void on_checkpoint(std::int64_t step) { static_cast<void>(step); }
  /// Called with a sentence for the user, for example about a skipped step, another machine than before, or an
  /// incomplete checkpoint.
  virtual void on_message(const std::string& text) { static_cast<void>(text); }
};

/// Which state the student holds after a run, for a program to export, and which checkpoints are kept.
enum class SaveRule : std::uint8_t {
  last,  // the state after the last step
  best,  // the state with the lowest Evaluation::best_by; checkpoints still hold the last states, so that a run can be
         // continued
  all    // the state after the last step; no checkpoint is removed, whatever `keep` says
};

/// Settings of one run. With several ranks (`ranks`) every rank must give the same settings. The hooks of every rank
/// are called at the start, after steps and for evaluations. The evaluation and the finish_reason of the first rank
/// count; a checkpoint is saved if any rank wants one. Only the first rank's hooks write files.
struct RunSettings {
  std::int64_t steps = 0;          // > 0
  std::int64_t micro_batches = 1;  // > 0; batches that one step takes from the source
  double clip_norm = 0;            // >= 0; limit of the norm of the whole gradient; 0: no clipping
  std::int64_t save_every = 0;     // >= 0; steps between checkpoints; 0: only at the end and when stopped
  std::int64_t keep = 2;           // >= 0; number of newest checkpoints that are kept; 0: all
  SaveRule save = SaveRule::last;
  std::int64_t evaluate_every = 0;  // >= 0; steps between calls of hooks->evaluate; 0: never
  bool evaluate_first = false;      // true: evaluate also before the first step
  bool recompute = false;  // true: the backward pass computes the activations of each layer again, which takes less
                           // memory and more time
  std::int64_t workspace_bytes = 0;  // bytes for the head and the loss; 0: the default of the loss
  double gradient_threshold = 0;     // in [0, 1); see HeadLossSettings::gradient_threshold
  /// For mixtures of experts: training passes send each token to the experts that were used when the text was written,
  /// if the batch carries this routing.
  bool replay_routing = false;
  /// The named spans of TokenBatch::spans. The loss is a separate mean for each span (SpanWeights); without spans it is
  /// one mean over all rows.
  std::vector<Span> spans{};
  bool jensen_shannon = false;  // true: logs the metric train/js for every loss, which costs one more logarithm for
                                // each entry of the logits
  bool resume = true;  // true: continue from the newest checkpoint of the store; false: remove what the store holds
  SettingsList settings{};    // settings of the program, compared when a run is resumed, in addition to those that the
                              // parts describe themselves
  RunHooks* hooks = nullptr;  // borrowed; nullptr: none
  /// >= 0; the number of later steps whose batches are fetched and announced to the teacher in advance, so that a
  /// teacher on another machine works while this machine trains. Only batches that do not depend on the student are
  /// fetched in advance. Results do not change; time and memory do.
  std::int64_t teacher_ahead = 0;
  RankSettings ranks{};  // the ranks that share the steps; default: a single rank
  /// A flag that asks the run to stop; a signal handler may set it. The run then saves its state after the current step
  /// and returns. nullptr: none.
  const std::atomic<bool>* stop = nullptr;
};

/// How a run ended.
struct RunResult {
  std::int64_t step = 0;          // steps done in all, earlier attempts included
  std::int64_t resumed_from = 0;  // step of the checkpoint that was continued; 0: there was none
  std::int64_t skipped_steps = 0;
  double loss = 0;              // loss of the last step
  double seconds = 0;           // time spent in run(), earlier attempts included
  std::int64_t best_step = -1;  // step of the best state; -1: no evaluation has chosen one
  double best_value = 0;
  std::int64_t student_step = 0;        // step whose parameters the student holds now (SaveRule)
  bool finished = false;                // all steps are done, the source ended, or there is a finish_reason
  std::string finish_reason{};          // the sentence of RunHooks::finish_reason
  bool stopped = false;                 // the run was asked to stop; run again to go on
  bool exhausted = false;               // the source ended before the steps did; `finished` is true, too
  bool was_finished = false;            // nothing was left to do, because the store held the finished run
  std::vector<std::string> messages{};  // the sentences that hooks->on_message got
};

KDLIB_NAMESPACE_END

#endif
