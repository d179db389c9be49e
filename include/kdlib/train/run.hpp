// SPDX-License-Identifier: Apache-2.0
// How long and how a run trains, what it tells its caller, and what it answers.
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

/// What a run tells after each step.
struct StepReport {
  std::int64_t step = 0;     // done, this one included
  std::int64_t steps = 0;    // of the run (of the whole pipeline up to this stage's end)
  double loss = 0;           // per row of weight 1
  double gradient_norm = 0;  // before clipping
  double rate = 0;
  double tokens = 0;  // weight of this step's rows
  double tokens_per_s = 0;
  double step_seconds = 0;
  double seconds = 0;    // spent in run(), earlier attempts included
  bool skipped = false;  // the step had no row: no update was made
};

/// What an evaluation found. `values` go to the sink under their names ("evaluation/forward_kl"). The state with the
/// lowest `best_by` is kept as best; NaN does not take part.
struct Evaluation {
  std::vector<std::pair<std::string, double>> values;
  double best_by = std::numeric_limits<double>::quiet_NaN();
};

/// What a program may do while a run goes on. Override what is needed; nothing here changes the training itself.
class RunHooks {
 public:
  virtual ~RunHooks() = default;
  /// Once, before the first step: where the run starts (0: from the beginning).
  virtual void on_start(std::int64_t step, std::int64_t steps) { static_cast<void>(step), static_cast<void>(steps); }
  virtual void on_step(const StepReport& report) { static_cast<void>(report); }
  /// Asked after on_step: true saves a checkpoint of this step, whatever `save_every` says.
  virtual bool wants_checkpoint(const StepReport& report) { return static_cast<void>(report), false; }
  /// Asked after on_step. A sentence ends the run here as finished: it is stored, and a later run of the same store
  /// finds a finished run and trains no step more, whatever its `steps`. Empty: go on.
  virtual std::string finish_reason(const StepReport& report) { return static_cast<void>(report), std::string(); }
  /// Every `evaluate_every` steps and after the last one. Must depend on the student and fixed data only, or a resumed
  /// run differs. It may throw StopRequested: the run saves and ends, and evaluates when it is started again.
  virtual Evaluation evaluate(std::int64_t step) { return static_cast<void>(step), Evaluation{}; }
  /// Adds files to a checkpoint before it becomes visible, or to the folder of the best state (`best` is true; each
  /// file must then be replaced atomically).
  virtual void write_files(const std::string& folder, std::int64_t step, bool best) {
    static_cast<void>(folder), static_cast<void>(step), static_cast<void>(best);
  }
  /// A checkpoint of this step is complete.
  virtual void on_checkpoint(std::int64_t step) { static_cast<void>(step); }
  /// A sentence for the user: a skipped step, another machine than before, a folder that was not complete.
  virtual void on_message(const std::string& text) { static_cast<void>(text); }
};

/// Which state a run leaves in the student, for a program to export, and which checkpoints stay.
enum class SaveRule : std::uint8_t {
  last,  // the state after the last step
  best,  // the one with the lowest Evaluation::best_by; checkpoints still hold the last ones, so that a run can go on
  all    // the last; and no checkpoint is removed, whatever `keep` says
};

/// Settings of one run. With several ranks (`ranks`) every rank gives the same ones: hooks of each are started, told of
/// steps and asked to evaluate, and the first rank's answers count; it alone is asked for files.
struct RunSettings {
  std::int64_t steps = 0;          // > 0
  std::int64_t micro_batches = 1;  // batches taken from the source for one step
  double clip_norm = 0;            // limit of the global gradient norm; 0 = no clipping
  std::int64_t save_every = 0;     // steps between checkpoints; 0 = only at the end and when stopped
  std::int64_t keep = 2;           // newest checkpoints that stay; 0 = all
  SaveRule save = SaveRule::last;
  std::int64_t evaluate_every = 0;  // steps between calls of hooks->evaluate; 0 = never
  bool evaluate_first = false;      // also before the first step
  bool recompute = false;  // activations of each layer are computed again in the backward pass: less memory, more time
  std::int64_t workspace_bytes = 0;  // of the head and loss; 0 = the loss's own default
  double gradient_threshold = 0;     // HeadLossSettings::gradient_threshold
  bool replay_routing =
      false;  // mixtures of experts: training passes go to the experts that wrote the text, where a batch carries them
  std::vector<Span>
      spans{};  // named spans of TokenBatch::spans, each a mean of its own (SpanWeights); empty: one mean over all rows
  bool jensen_shannon = false;  // the metric train/js for every loss (a logarithm more an entry)
  bool resume = true;           // go on from the store's newest checkpoint; false: what the store holds is removed
  SettingsList settings{};      // of the program, in addition to what the parts describe themselves: compared on resume
  RunHooks* hooks = nullptr;    // borrowed
  /// Steps whose batches are fetched and announced to the teacher before they are trained on, as far as the source
  /// gives text that does not depend on the student: a teacher on another machine works while this one trains. Nothing
  /// changes but time and memory.
  std::int64_t teacher_ahead = 0;
  RankSettings ranks{};  // who shares the steps; left out: nobody
  const std::atomic<bool>* stop =
      nullptr;  // set it (a signal handler may): the run saves after the current step and returns
};

/// How a run ended.
struct RunResult {
  std::int64_t step = 0;          // steps done in all
  std::int64_t resumed_from = 0;  // 0: from the beginning
  std::int64_t skipped_steps = 0;
  double loss = 0;              // of the last step
  double seconds = 0;           // spent in run(), earlier attempts included
  std::int64_t best_step = -1;  // -1: no evaluation has chosen one
  double best_value = 0;
  std::int64_t student_step = 0;        // the step whose parameters the student holds now (SaveRule)
  bool finished = false;                // ended unstopped: all steps done, a reason, or no text left (exhausted)
  std::string finish_reason{};          // of RunHooks::finish_reason
  bool stopped = false;                 // `stop` was set: run again to go on
  bool exhausted = false;               // the source ended before the steps did; `finished` is true as well
  bool was_finished = false;            // nothing was left to do: the store held the finished run
  std::vector<std::string> messages{};  // what hooks->on_message was told
};

KDLIB_NAMESPACE_END

#endif
