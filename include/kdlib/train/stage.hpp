// SPDX-License-Identifier: Apache-2.0
// Trainings that follow each other on one student, with one folder and one file of metrics. A rerun goes on in the open
// stage.
#ifndef KDLIB_TRAIN_STAGE_HPP
#define KDLIB_TRAIN_STAGE_HPP

#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "kdlib/train/trainer.hpp"

KDLIB_NAMESPACE_BEGIN

/// Where the source of a stage begins.
enum class StageData : std::uint8_t {
  restart,  // where it stood when the TrainStage was made, also where an earlier stage has read from the same source
  go_on     // where the stage before left its own: both read the same source, or an equal one
};

/// One trainer (borrowed), how long it runs, and which parameters it trains meanwhile.
template <class TrainerType, class Selection>
class TrainStage {
 public:
  TrainStage(std::string name, TrainerType& trainer, RunSettings settings, Selection selection,
             StageData data = StageData::restart)
      : name_(std::move(name)),
        trainer_(&trainer),
        settings_(std::move(settings)),
        selection_(std::move(selection)),
        data_(data),
        start_(trainer.source().cursor()) {
    require<ConfigError>(!name_.empty(), "[TrainStage] the name is empty; checkpoints are told apart by it");
  }
  TrainStage(std::string, const TrainerType&&, RunSettings, Selection, StageData = StageData::restart) = delete;

  const std::string& name() const { return name_; }
  RunSettings& settings() { return settings_; }
  const RunSettings& settings() const { return settings_; }
  TrainerType& trainer() { return *trainer_; }
  /// True for parameters that this stage changes.
  bool trains(const std::string& parameter) const { return selection_(parameter) > 0; }

  template <class Sink, class Store>
  RunResult run(const StageContext& context, Sink& sink, Store& store) {
    trainer_->source().seek(data_ == StageData::go_on && !context.cursor.empty() ? context.cursor : start_);
    return trainer_->run(settings_, sink, store, selection_, context);
  }

 private:
  std::string name_;
  TrainerType* trainer_;
  RunSettings settings_;
  Selection selection_;
  StageData data_;
  SourceCursor start_;
};

template <class TrainerType, class Selection>
TrainStage(const char*, TrainerType&, RunSettings, Selection, StageData = StageData::restart)
    -> TrainStage<TrainerType, Selection>;
template <class TrainerType, class Selection>
TrainStage(std::string, TrainerType&, RunSettings, Selection, StageData = StageData::restart)
    -> TrainStage<TrainerType, Selection>;

namespace detail {
/// Where a pipeline begins: a stage, the step at which it starts or started, and where the stage before left its text.
struct StageOpening {
  std::size_t stage = 0;
  std::int64_t first_step = 0;
  SourceCursor cursor{};
};
}  // namespace detail

/// Runs its stages in order. Steps count on through the stages, so metrics.jsonl and the checkpoints' names keep one
/// order. Every checkpoint also holds what earlier stages trained. All stages must train the same student. The best
/// state (SaveRule::best) is chosen in the last stage alone: an earlier one would lack what later stages train.
template <class... Stages>
class Pipeline {
  static_assert(
      sizeof...(Stages) > 0,
      "kdlib: a Pipeline needs at least one stage; write kd::TrainStage{name, trainer, settings, kd::everything()}");

 public:
  explicit Pipeline(Stages... stages);

  /// The results of the stages that ran or were found finished, in order; it ends early where a stage was stopped.
  /// ConfigError where the store holds a stage of another name.
  template <class Sink, class Store>
  std::vector<RunResult> run(Sink&& sink, Store&& store);

 private:
  template <class F>
  void each_stage(F&& f);

  std::tuple<Stages...> stages_;
};

/// The same for stages of one type, whose number is known at run time.
template <class StageType>
class StageList {
 public:
  /// ConfigError: no stage, or two of one name.
  explicit StageList(std::vector<StageType> stages);

  /// `carried`: parameters that every checkpoint holds from the beginning, whatever stages train, since the program has
  /// given them values that it cannot give again.
  template <class Sink, class Store>
  std::vector<RunResult> run(Sink&& sink, Store&& store, std::vector<std::string> carried = {});

 private:
  template <class F>
  void each_stage(F&& f);

  std::vector<StageType> stages_;
};

KDLIB_NAMESPACE_END

#include "kdlib/train/stage_inl.hpp"

#endif
