// SPDX-License-Identifier: Apache-2.0
// Bodies of stage.hpp. `each(f)` calls f(index, stage) for every stage in order.
#ifndef KDLIB_TRAIN_STAGE_INL_HPP
#define KDLIB_TRAIN_STAGE_INL_HPP

#include "kdlib/train/stage.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

template <class Each>
void check_stage_list(Each&& each) {
  std::vector<std::string> names;
  std::string best;
  each([&](std::size_t, auto& stage) {
    require<ConfigError>(best.empty(), "[Pipeline] the stage ", best,
                         " keeps its best state (SaveRule::best), which lacks what later stages train: only the last "
                         "stage may");
    if (stage.settings().save == SaveRule::best) best = stage.name();
    for (const std::string& name : names)
      require<ConfigError>(name != stage.name(), "[Pipeline] two stages are called ", name);
    names.push_back(stage.name());
  });
}

/// From the store's newest checkpoint.
template <class Each, class Store>
StageOpening open_stage(Each&& each, std::size_t count, Store& store) {
  const std::optional<TrainState> saved = store.latest();
  if (!saved) return {};
  std::size_t open = count, of_checkpoint = count;
  std::string names;
  each([&](std::size_t i, auto& stage) {
    names += (i == 0 ? "" : ", ") + stage.name();
    // A finished last stage is "run" again: it finds nothing to do and puts its parameters into the student.
    if (stage.name() != saved->stage) return;
    of_checkpoint = i;
    open = saved->finished && i + 1 < count ? i + 1 : i;
  });
  require<ConfigError>(open < count, "[Pipeline] the checkpoint is of stage '", saved->stage, "', the stages here are ",
                       names, "; use the program that wrote it, or another folder");
  // A stage that ended before its last step (its source did, or it had a reason) moves the next one's begin.
  if (open == of_checkpoint) return {open, saved->first_step};
  return {open, saved->step, saved->source_cursor};
}

template <class Each, class Sink, class Store>
std::vector<RunResult> run_stages(Each&& each, std::size_t count, Sink& sink, Store& store,
                                  std::vector<std::string> carried = {}) {
  bool resumes = true;
  each([&](std::size_t i, auto& stage) {
    if (i == 0) resumes = stage.settings().resume;
  });
  const StageOpening open = resumes ? open_stage(each, count, store) : StageOpening{};
  std::vector<RunResult> results;
  StageContext context;
  context.first_step = open.first_step;
  context.cursor = open.cursor;
  context.carried = std::move(carried);
  bool stopped = false;
  each([&](std::size_t i, auto& stage) {
    if (i >= open.stage && !stopped) {
      context.name = stage.name();
      stage.settings().resume = resumes || i > 0;  // only the first stage of a fresh start empties the store
      results.push_back(stage.run(context, sink, store));
      stopped = results.back().stopped;
      context.first_step = results.back().step;
      context.cursor = stage.trainer().source().cursor();
    }
    for (const auto* p : stage.trainer().student().parameters())
      if (stage.trains(p->name)) context.carried.push_back(p->name);
  });
  return results;
}

}  // namespace detail

template <class... Stages>
Pipeline<Stages...>::Pipeline(Stages... stages) : stages_(std::move(stages)...) {
  detail::check_stage_list([this](auto&& f) { this->each_stage(f); });
}

template <class... Stages>
template <class F>
void Pipeline<Stages...>::each_stage(F&& f) {
  std::size_t index = 0;
  std::apply([&](auto&... stage) { (f(index++, stage), ...); }, stages_);
}

template <class... Stages>
template <class Sink, class Store>
std::vector<RunResult> Pipeline<Stages...>::run(Sink&& sink, Store&& store) {
  static_assert((Stage<Stages, std::remove_reference_t<Sink>, std::remove_reference_t<Store>> && ...),
                "kdlib: an argument of Pipeline is not a stage (name(), run(context, sink, store)); write "
                "kd::TrainStage{name, trainer, settings, selection}");
  return detail::run_stages([this](auto&& f) { this->each_stage(f); }, sizeof...(Stages), sink, store);
}

template <class StageType>
StageList<StageType>::StageList(std::vector<StageType> stages) : stages_(std::move(stages)) {
  require<ConfigError>(!stages_.empty(), "[StageList] there is no stage");
  detail::check_stage_list([this](auto&& f) { this->each_stage(f); });
}

template <class StageType>
template <class F>
void StageList<StageType>::each_stage(F&& f) {
  for (std::size_t i = 0; i < stages_.size(); ++i) f(i, stages_[i]);
}

template <class StageType>
template <class Sink, class Store>
std::vector<RunResult> StageList<StageType>::run(Sink&& sink, Store&& store, std::vector<std::string> carried) {
  static_assert(Stage<StageType, std::remove_reference_t<Sink>, std::remove_reference_t<Store>>,
                "kdlib: the elements of StageList are no stages (name(), run(context, sink, store)); use "
                "kd::TrainStage");
  return detail::run_stages([this](auto&& f) { this->each_stage(f); }, stages_.size(), sink, store, std::move(carried));
}

KDLIB_NAMESPACE_END

#endif
