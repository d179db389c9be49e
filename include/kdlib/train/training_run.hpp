// SPDX-License-Identifier: Apache-2.0
// The loop of one run: resume, steps, metrics, evaluation, checkpoints. Only Trainer uses this class; programs use
// Trainer.
#ifndef KDLIB_TRAIN_TRAINING_RUN_HPP
#define KDLIB_TRAIN_TRAINING_RUN_HPP

#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kdlib/core/clock.hpp"
#include "kdlib/optim/clip.hpp"
#include "kdlib/train/concepts.hpp"
#include "kdlib/train/gradient_step.hpp"
#include "kdlib/train/host_tensors.hpp"
#include "kdlib/train/optimizer_shard.hpp"
#include "kdlib/train/ranked_step.hpp"
#include "kdlib/train/run.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// A source that may change row weights once in each step, when all batches of the step have been fetched.
template <class Source>
concept WeighsRows = requires(Source& source, std::vector<TokenBatch>& batches) {
  source.weigh_rows(batches);
};

/// Bundles the types of one run.
template <class Student, class Source, class Objective, class Schedule, class OptimizerState, class Sink, class Store>
struct RunTypes {
  using StudentType = Student;
  using SourceType = Source;
  using ObjectiveType = Objective;
  using ScheduleType = Schedule;
  using StateType = OptimizerState;
  using SinkType = Sink;
  using StoreType = Store;
};

/// The objects that a run works on. All of them are borrowed.
template <class Types>
struct RunParts {
  typename Types::StudentType& student;
  typename Types::SourceType& source;
  typename Types::ObjectiveType& objective;
  const typename Types::ScheduleType& schedule;
  typename Types::StateType& state;
  typename Types::SinkType& sink;
  typename Types::StoreType& store;
  OptimizerShard<typename Types::StudentType::scalar_type, typename Types::StudentType::device_type>* shard = nullptr;
};

template <class Types>
class TrainingRun {
  using Student = typename Types::StudentType;
  using Source = typename Types::SourceType;
  using Objective = typename Types::ObjectiveType;
  using T = typename Student::scalar_type;
  using D = typename Student::device_type;

 public:
  TrainingRun(const RunParts<Types>& parts, const RunSettings& settings, const StageContext& context,
              const std::vector<Parameter<T, D>*>& trained, SettingsList list)
      : student_(parts.student),
        source_(parts.source),
        objective_(parts.objective),
        schedule_(parts.schedule),
        state_(parts.state),
        sink_(parts.sink),
        store_(parts.store),
        shard_(parts.shard),
        settings_(settings),
        context_(context),
        trained_(trained),
        list_(std::move(list)),
        gradient_(GradientSettings{.recompute = settings.recompute,
                                   .workspace_bytes = settings.workspace_bytes,
                                   .gradient_threshold = settings.gradient_threshold,
                                   .replay_routing = settings.replay_routing,
                                   .jensen_shannon = settings.jensen_shannon,
                                   .spans = !settings.spans.empty()}) {
    if (!settings.spans.empty()) spans_.emplace(settings.spans);
    if (settings.ranks.active()) ranks_.emplace(settings.ranks, settings.micro_batches, trained);
  }

  RunResult run();

 private:
  struct StepTimes {
    double begin = 0, fetched = 0, end = 0;
  };

  /// What the ranks have agreed on for one step.
  struct Agreed {
    double total = 0;  // sum of the row weights of all micro-batches, which is the normaliser
    bool stop = false;
  };

  void start();
  void start_ranks();
  bool take_ranked_step();
  bool pass_batch();
  std::int64_t fetch_slices(bool& stop);
  Agreed agree(bool stop);
  RankedSums ranked_gradient(double total, double source_seconds);
  bool leads() const { return !ranks_ || settings_.ranks.communicator.leads(); }
  bool any_rank(bool mine) { return ranks_ ? ranks_->communicator().any(mine) : mine; }
  Evaluation evaluation_of_first(Evaluation mine);
  std::string text_of_first(std::string mine);
  void resume(const TrainState& saved);
  void check_fits(const TrainState& saved);
  void check_tensors(const TrainState& saved);
  void take_over(const TrainState& saved);
  void rewind_sink(std::int64_t step);
  bool goes_on();
  bool take_step();
  PendingSums<D> gradient_or_give_back(const SourceCursor& before);
  bool take_batch();
  void weigh_by_source();
  bool fetch();
  SourceCursor place() const;
  void give_back(const SourceCursor& before);
  bool may_fetch_ahead() const;
  std::optional<std::int64_t> take_fetched();
  void fetch_ahead(const SourceCursor& before);
  bool queue_update(const PendingSums<D>& pending, PendingNorm<D>& norm);
  void end_step(const StepSums& sums, double norm, double factor, StepTimes times);
  void update(const StepSums& sums, double norm, double factor, double rate);
  void report(const StepSums& sums, double norm, double rate, const StepTimes& times);
  void log_step(const StepReport& r, const StepTimes& times, const StepSums& sums);
  void scalar(std::string_view name, double value) {
    sink_.scalar(name, step_, value);
    unflushed_ = true;
  }
  void flush() {
    if (std::exchange(unflushed_, false)) sink_.flush();
  }
  void evaluate_if_due(bool last);
  void save(bool finished);
  void prune();
  void give_best();
  TrainState capture(bool finished, bool with_moments) const;
  void message(std::string text);
  std::int64_t last_step() const { return context_.first_step + settings_.steps; }
  bool stop_requested() const { return settings_.stop != nullptr && settings_.stop->load(); }
  double seconds() const { return seconds_before_ + steady_seconds() - started_; }

  Student& student_;
  Source& source_;
  Objective& objective_;
  const typename Types::ScheduleType& schedule_;
  typename Types::StateType& state_;
  typename Types::SinkType& sink_;
  typename Types::StoreType& store_;
  OptimizerShard<T, D>* shard_;  // nullptr: state_ holds the moments of all trained parameters
  const RunSettings& settings_;
  const StageContext& context_;
  const std::vector<Parameter<T, D>*>& trained_;
  SettingsList list_, environment_;
  GradientStep<Student, Objective> gradient_;
  /// The batches of a later step, fetched in advance. With several ranks each rank keeps its part of the step's
  /// `slices` micro-batches.
  struct Ahead {
    std::vector<TokenBatch> batches;
    std::int64_t slices = 0;
    SourceCursor before;  // place of the source in front of these batches
  };

  std::vector<TokenBatch> batches_;
  std::vector<Ahead> ahead_;  // batches of the next steps, in order
  std::optional<SpanWeights> spans_;
  std::optional<RankedStep<T, D>> ranks_;
  std::vector<std::pair<std::string, double>> rank_values_;  // metrics "dp/..." of this step, for the sink
  double step_tokens_ = 0;  // sum of this step's row weights, before spans_ changed them
  RunResult result_;
  std::int64_t step_ = 0, saved_step_ = -1, evaluated_step_ = -1;
  bool update_queued_ = false;       // the update of this step is queued on the device
  bool save_asked_ = false;          // the hooks want a checkpoint after this step
  bool unflushed_ = false;           // the sink has scalars that no flush() has followed
  bool saved_finished_ = false;      // the checkpoint of saved_step_ is marked as finished
  bool evaluation_pending_ = false;  // TrainState::evaluation_pending
  double tokens_ = 0, seconds_before_ = 0, started_ = 0;
};

}  // namespace detail
KDLIB_NAMESPACE_END

#include "kdlib/train/training_run_inl.hpp"

#endif
