// SPDX-License-Identifier: Apache-2.0
// Pipelines: trainings (stages) that follow each other on one student, with one store of checkpoints and one file of
// metrics. A rerun continues the first stage that is not finished.
#ifndef KDLIB_TRAIN_STAGE_HPP
#define KDLIB_TRAIN_STAGE_HPP

#include <string>
#include <tuple>
#include <utility>
#include <vector>

#include "kdlib/train/trainer.hpp"

KDLIB_NAMESPACE_BEGIN

/// Where the source of a stage starts to read.
enum class StageData : std::uint8_t {
  restart,  // at its place when the TrainStage was made, even if an earlier stage has read from the same source
  go_on     // at the place where the stage before left its source; both must read the same source or an equal one
};

/// A stage: a trainer (borrowed), the settings of its run, and the selection of the parameters that it trains.
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
  /// True if this stage trains the parameter of this name.
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
/// Where a pipeline begins: the number of the stage, the step at which this stage starts or started, and the place
/// where the stage before left its source.
struct StageOpening {
  std::size_t stage = 0;
  std::int64_t first_step = 0;
  SourceCursor cursor{};
};
}  // namespace detail

/// Runs its stages in order. Steps are counted through all stages, so that metrics.jsonl and the names of the
/// checkpoints keep one order. Every checkpoint also holds the parameters that earlier stages trained. All stages must
/// train the same student. Only the last stage may keep a best state (SaveRule::best), because that of an earlier stage
/// would lack what later stages train; the constructor throws ConfigError for this and for two stages of one name.
template <class... Stages>
class Pipeline {
  static_assert(
      sizeof...(Stages) > 0,
      "kdlib: a Pipeline needs at least one stage; write kd::TrainStage{name, trainer, settings, kd::everything()}");

 public:
  explicit Pipeline(Stages... stages);

  /// Returns the results of the stages that this call ran, in order. Stages that an earlier call finished are skipped,
  /// except the last one, which loads its parameters into the student. If a stage is stopped, the later stages do not
  /// run. ConfigError: the store holds a checkpoint of a stage with an unknown name.
  template <class Sink, class Store>
  std::vector<RunResult> run(Sink&& sink, Store&& store);

 private:
  template <class F>
  void each_stage(F&& f);

  std::tuple<Stages...> stages_;
};

/// A pipeline of stages of one type, whose number is known at run time.
template <class StageType>
class StageList {
 public:
  /// ConfigError: there is no stage, two stages have one name, or a stage before the last has SaveRule::best.
  explicit StageList(std::vector<StageType> stages);

  /// As Pipeline::run(). `carried` names parameters that every checkpoint holds from the beginning, whatever the stages
  /// train, because the program has given them values that it cannot compute again.
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
