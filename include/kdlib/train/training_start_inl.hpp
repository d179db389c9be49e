// SPDX-License-Identifier: Apache-2.0
// How a training run begins: anew, or from what a checkpoint holds.
#ifndef KDLIB_TRAIN_TRAINING_START_INL_HPP
#define KDLIB_TRAIN_TRAINING_START_INL_HPP

#include <algorithm>

#include "kdlib/train/described_parts_inl.hpp"
#include "kdlib/train/environment.hpp"
#include "kdlib/train/training_run.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

template <class Types>
void TrainingRun<Types>::start() {
  step_ = context_.first_step;
  environment_ = run_environment<D, T>();
  environment_.emplace_back("workspace_bytes", std::to_string(settings_.workspace_bytes));
  start_ranks();
  if (!settings_.resume) {
    rewind_sink(-1);  // first: it refuses a file that is not of metrics before anything is removed
    if constexpr (requires { store_.clear(); }) store_.clear();
  } else if (const std::optional<TrainState> saved = store_.latest()) {
    resume(*saved);
    if constexpr (requires { store_.set_damaged_aside(); }) store_.set_damaged_aside();
    prune();  // what a killed run did not come to
  } else {
    rewind_sink(-1);
  }
  if constexpr (requires { store_.notes(); })
    for (const std::string& note : store_.notes()) message(note);
  if (settings_.hooks != nullptr) settings_.hooks->on_start(step_, last_step());
  const bool first = settings_.evaluate_first && step_ == 0 && context_.first_step == 0;
  if (first || evaluation_pending_) {
    evaluate_if_due(true);
    flush();
  }
}

template <class Types>
void TrainingRun<Types>::rewind_sink(std::int64_t step) {
  if constexpr (requires { sink_.rewind(step); }) sink_.rewind(step);
}

/// Everything that can refuse comes first: a refused run leaves student, source, metrics and checkpoints as they were.
template <class Types>
void TrainingRun<Types>::resume(const TrainState& saved) {
  check_fits(saved);
  const bool same_stage = saved.stage == context_.name;
  if (same_stage) source_.seek(saved.source_cursor);
  rewind_sink(saved.step);
  load_parameters(saved.parameters, student_.parameters());
  seconds_before_ = saved.seconds;
  tokens_ = saved.tokens;
  if (same_stage) take_over(saved);  // else the stage before: its parameters are the start of this one
}

template <class Types>
void TrainingRun<Types>::check_fits(const TrainState& saved) {
  if (saved.stage != context_.name) check_stage_before(saved, context_);
  else check_same_settings(saved.settings, list_);
  check_tensors(saved);
}

template <class Types>
void TrainingRun<Types>::check_tensors(const TrainState& saved) {
  check_parameters(saved.parameters, student_.parameters());
  if (saved.stage != context_.name) return;
  for (const Parameter<T, D>* p : trained_)
    require<ConfigError>(find_tensor(saved.parameters, p->name) != nullptr, "[resume] the checkpoint does not hold ",
                         p->name, ", which this run trains; train what the first run trained");
  for (const auto& [name, tensor] : state_.tensors()) {
    const HostTensor* moment = find_tensor(saved.moments, name);
    require<ConfigError>(moment != nullptr, "[resume] the checkpoint does not hold ", name,
                         "; use the optimizer that wrote it");
    check_host_tensor(*moment, tensor);
  }
}

template <class Types>
void TrainingRun<Types>::take_over(const TrainState& saved) {
  if constexpr (!requires { source_.describe(); })
    message("the source offers no describe(): whether it is the first run's is not checked");
  if constexpr (!requires { objective_.teacher().describe(); })
    message("the teacher offers no describe(): whether it is the first run's is not checked");
  for (std::string& difference : environment_differences(saved.environment, environment_))
    message(std::move(difference));
  for (auto& [name, tensor] : state_.tensors()) from_host_tensor(*find_tensor(saved.moments, name), tensor);
  state_.set_steps(saved.optimizer_steps);
  step_ = saved_step_ = saved.step;
  saved_finished_ = saved.finished;
  evaluation_pending_ = saved.evaluation_pending;
  evaluated_step_ = saved.finished ? saved.step : saved.evaluated_step;
  result_.resumed_from = saved.step;
  result_.skipped_steps = saved.skipped_steps;
  result_.loss = saved.loss;
  result_.best_step = saved.best_step;
  result_.best_value = saved.best_value;
  result_.finish_reason = saved.finish_reason;
  result_.was_finished = saved.finished && (step_ >= last_step() || !saved.finish_reason.empty());
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
