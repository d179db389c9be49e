// SPDX-License-Identifier: Apache-2.0
// Bodies of stage.hpp.
#ifndef KDLIB_TRAIN_STAGE_INL_HPP
#define KDLIB_TRAIN_STAGE_INL_HPP

#include "kdlib/train/stage.hpp"

KDLIB_NAMESPACE_BEGIN

template <class... Stages>
Pipeline<Stages...>::Pipeline(Stages... stages) : stages_(std::move(stages)...) {
  std::vector<std::string> names;
  each_stage([&](std::size_t, auto& stage) {
    for (const std::string& name : names)
      require<ConfigError>(name != stage.name(), "[Pipeline] two stages are called ", name);
    names.push_back(stage.name());
  });
}

template <class... Stages>
template <class F>
void Pipeline<Stages...>::each_stage(F&& f) {
  std::size_t index = 0;
  std::apply([&](auto&... stage) { (f(index++, stage), ...); }, stages_);
}

template <class... Stages>
template <class Store>
typename Pipeline<Stages...>::Opening Pipeline<Stages...>::open_stage(Store& store) {
  const std::optional<TrainState> saved = store.latest();
  if (!saved) return {};
  std::size_t open = sizeof...(Stages), of_checkpoint = open;
  std::string names;
  each_stage([&](std::size_t i, auto& stage) {
    names += (i == 0 ? "" : ", ") + stage.name();
    // A finished last stage is "run" again: it finds nothing to do and puts its parameters into the student.
    if (stage.name() != saved->stage) return;
    of_checkpoint = i;
    open = saved->finished && i + 1 < sizeof...(Stages) ? i + 1 : i;
  });
  require<ConfigError>(open < sizeof...(Stages), "[Pipeline] the checkpoint is of stage '", saved->stage,
                       "', the stages here are ", names, "; use the program that wrote it, or another folder");
  // A stage that ended before its last step (its source did, or it had a reason) moves the next one's begin.
  return {open, open == of_checkpoint ? saved->first_step : saved->step};
}

template <class... Stages>
template <class Sink, class Store>
std::vector<RunResult> Pipeline<Stages...>::run(Sink&& sink, Store&& store) {
  static_assert((Stage<Stages, std::remove_reference_t<Sink>, std::remove_reference_t<Store>> && ...),
                "kdlib: an argument of Pipeline is not a stage (name(), run(context, sink, store)); write "
                "kd::TrainStage{name, trainer, settings, selection}");
  const bool resumes = std::get<0>(stages_).settings().resume;
  const Opening open = resumes ? open_stage(store) : Opening{};
  std::vector<RunResult> results;
  StageContext context;
  context.first_step = open.first_step;
  bool stopped = false;
  each_stage([&](std::size_t i, auto& stage) {
    if (i >= open.stage && !stopped) {
      context.name = stage.name();
      stage.settings().resume = resumes || i > 0;  // only the first stage of a fresh start empties the store
      results.push_back(stage.run(context, sink, store));
      stopped = results.back().stopped;
      context.first_step = results.back().step;
    }
    for (const auto* p : stage.trainer().student().parameters())
      if (stage.trains(p->name)) context.carried.push_back(p->name);
  });
  return results;
}

KDLIB_NAMESPACE_END

#endif
