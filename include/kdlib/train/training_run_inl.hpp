// SPDX-License-Identifier: Apache-2.0
// Bodies of training_run.hpp.
#ifndef KDLIB_TRAIN_TRAINING_RUN_INL_HPP
#define KDLIB_TRAIN_TRAINING_RUN_INL_HPP

#include <time.h>

#include <algorithm>
#include <cmath>

#include "kdlib/train/described_parts_inl.hpp"
#include "kdlib/train/environment.hpp"
#include "kdlib/train/training_run.hpp"

#define KDLIB_TRAINING_RUN(result)                                                                          \
  template <class Student, class Source, class Objective, class Schedule, class OptimizerState, class Sink, \
            class Store>                                                                                    \
  result TrainingRun<Student, Source, Objective, Schedule, OptimizerState, Sink, Store>

KDLIB_NAMESPACE_BEGIN
namespace detail {

inline double monotonic_seconds() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

KDLIB_TRAINING_RUN(RunResult)::run() {
  started_ = monotonic_seconds();
  {
    const StopScope shield(nullptr);
    start();
  }
  while (step_ < last_step() && !result_.exhausted) {
    if (stop_requested()) {
      result_.stopped = true;
      break;
    }
    try {
      result_.exhausted = !take_step();
    } catch (const StopRequested&) {  // fetch() has put the source back
      result_.stopped = true;
      break;
    }
    if (settings_.save_every > 0 && step_ % settings_.save_every == 0 && step_ < last_step() && step_ != saved_step_)
      save(false);
  }
  const StopScope shield(nullptr);
  result_.finished = !result_.stopped;
  if (result_.finished) evaluate_if_due(true);
  if (step_ != saved_step_) save(result_.finished);
  result_.step = step_;
  result_.seconds = seconds();
  return std::move(result_);
}

KDLIB_TRAINING_RUN(void)::start() {
  step_ = context_.first_step;
  environment_ = run_environment<D, T>();
  environment_.emplace_back("workspace_bytes", std::to_string(settings_.workspace_bytes));
  if (!settings_.resume) {
    if constexpr (requires { store_.clear(); }) store_.clear();
    rewind_sink(-1);
  } else if (const std::optional<TrainState> saved = store_.latest()) {
    resume(*saved);
    if constexpr (requires { store_.prune(settings_.keep); })
      store_.prune(settings_.keep);  // what a killed run did not come to
  } else {
    rewind_sink(-1);
  }
  if constexpr (requires { store_.notes(); })
    for (const std::string& note : store_.notes()) message(note);
  if (settings_.hooks != nullptr) settings_.hooks->on_start(step_, last_step());
  if (settings_.evaluate_first && step_ == 0 && context_.first_step == 0) {
    evaluate_if_due(true);
    sink_.flush();
  }
}

KDLIB_TRAINING_RUN(void)::rewind_sink(std::int64_t step) {
  if constexpr (requires { sink_.rewind(step); }) sink_.rewind(step);
}

KDLIB_TRAINING_RUN(void)::resume(const TrainState& saved) {
  load_parameters(saved.parameters, student_.parameters());
  seconds_before_ = saved.seconds;
  tokens_ = saved.tokens;
  rewind_sink(saved.step);
  if (saved.stage != context_.name) {  // the stage before: its parameters are the start of this one
    require<ConfigError>(saved.finished && saved.step == context_.first_step, "[resume] the checkpoint is of step ",
                         saved.step, " of stage '", saved.stage, "', this run is stage '", context_.name,
                         "' from step ", context_.first_step, "; use the program that wrote it, or another folder");
    return;
  }
  check_same_settings(saved);
  if constexpr (!requires { source_.describe(); })
    message("the source offers no describe(): whether it is the first run's is not checked");
  if constexpr (!requires { objective_.teacher().describe(); })
    message("the teacher offers no describe(): whether it is the first run's is not checked");
  for (std::string& difference : environment_differences(saved.environment, environment_))
    message(std::move(difference));
  for (const Parameter<T, D>* p : trained_)
    require<ConfigError>(std::any_of(saved.parameters.begin(), saved.parameters.end(),
                                     [&](const HostTensor& t) { return t.name == p->name; }),
                         "[resume] the checkpoint does not hold ", p->name,
                         ", which this run trains; train what the first run trained");
  for (auto& [name, tensor] : state_.tensors()) {
    const auto at = std::find_if(saved.moments.begin(), saved.moments.end(),
                                 [&n = name](const HostTensor& t) { return t.name == n; });
    require<ConfigError>(at != saved.moments.end(), "[resume] the checkpoint does not hold ", name,
                         "; use the optimizer that wrote it");
    from_host_tensor(*at, tensor);
  }
  state_.set_steps(saved.optimizer_steps);
  source_.seek(saved.source_cursor);
  step_ = saved_step_ = saved.step;
  if (saved.finished) evaluated_step_ = saved.step;
  result_.resumed_from = saved.step;
  result_.skipped_steps = saved.skipped_steps;
  result_.best_step = saved.best_step;
  result_.best_value = saved.best_value;
  result_.was_finished = saved.finished && step_ >= last_step();
}

KDLIB_TRAINING_RUN(void)::check_same_settings(const TrainState& saved) const {
  detail::check_same_settings(saved.settings, list_);
}

KDLIB_TRAINING_RUN(bool)::fetch() {
  batches_.clear();
  const auto before = source_.cursor();
  try {
    while (static_cast<std::int64_t>(batches_.size()) < settings_.micro_batches) {
      std::optional<TokenBatch> batch;
      if constexpr (DataSource<Source>) batch = source_.next();
      else batch = source_.next(student_);
      if (!batch) break;
      batch->check(student_.vocab_size());
      batches_.push_back(std::move(*batch));
    }
  } catch (const StopRequested&) {
    source_.seek(before);
    throw;
  }
  return !batches_.empty();
}

KDLIB_TRAINING_RUN(bool)::take_step() {
  StepTimes times;
  times.begin = monotonic_seconds();
  if (!fetch()) return false;
  const StopScope shield(nullptr);  // from here on the step is taken whole
  times.fetched = monotonic_seconds();
  step_tokens_ = total_weight(batches_);
  if (spans_) spans_->weigh(batches_);  // every span its own denominator, fixed here for all micro-batches
  const StepSums sums = gradient_(student_, objective_, batches_);
  const auto clip = measure_clip(trained_, settings_.clip_norm);  // optim/clip.hpp, found where the program includes it
  const double rate = schedule_(step_ - context_.first_step);
  ++step_;
  update(sums, clip.norm, clip.factor, rate);
  times.end = monotonic_seconds();
  report(sums, clip.norm, rate, times);
  return true;
}

KDLIB_TRAINING_RUN(void)::update(const StepSums& sums, double norm, double factor, double rate) {
  if (sums.loss.weight <= 0) {
    ++result_.skipped_steps;
    message(concat("step ", step_,
                   " has no token that counts and is skipped; check masks and lengths if this happens often"));
    return;
  }
  const char* what = !std::isfinite(sums.loss.sum) ? "loss" : !std::isfinite(norm) ? "gradient" : nullptr;
  if (what != nullptr) {
    const std::string last = saved_step_ >= 0 ? concat("the last checkpoint is step ", saved_step_)
                                              : std::string("no checkpoint was saved yet");
    fail<TrainingError>("[train] step ", step_, ": the ", what, " is not finite (loss ", setting_text(sums.loss.mean()),
                        ", gradient norm ", setting_text(norm), ", rate ", setting_text(rate), "); ", last,
                        ". Lower the rate, lengthen the warm-up or set clip_norm, and check the data of this step");
  }
  tokens_ += step_tokens_;
  state_.step(rate, factor);
}

KDLIB_TRAINING_RUN(void)::log_metrics(const RowMetrics& m) {
  if (m.weight > 0) scalar("train/student_entropy", m.student_entropy / m.weight);
  if (m.teacher_weight > 0) {
    scalar("train/teacher_entropy", m.teacher_entropy / m.teacher_weight);
    scalar("train/forward_kl", m.forward_kl / m.teacher_weight);
    scalar("train/reverse_kl", m.reverse_kl / m.teacher_weight);
    scalar("train/top1_agreement", m.top1_agreement / m.teacher_weight);
    scalar("train/top5_overlap", m.top5_overlap / m.teacher_weight);
    scalar("train/top5_contains", m.top5_contains / m.teacher_weight);
  }
  if (m.label_weight > 0) {
    scalar("train/label_log_prob", m.label_log_prob / m.label_weight);
    scalar("train/label_top1", m.label_top1 / m.label_weight);
    if (m.label_rank > 0) scalar("train/label_rank", m.label_rank / m.label_weight);
  }
  if (m.js_weight > 0) scalar("train/js", m.js / m.js_weight);
  if (m.support_weight > 0) {
    scalar("train/teacher_support_mass", m.teacher_support_mass / m.support_weight);
    scalar("train/student_support_mass", m.student_support_mass / m.support_weight);
    scalar("train/tail_loss", m.tail_loss / m.support_weight);
  }
  if (m.clamp_weight > 0) scalar("train/clamp_fraction", m.clamped / m.clamp_weight);
}

KDLIB_TRAINING_RUN(void)::log_experts(const ExpertUse& use) {
  if (use.empty()) return;
  scalar("experts/entropy", use.entropy());
  scalar("experts/max_share", use.max_share());
  const auto loads = use.loads();
  for (std::size_t i = 0; i < loads.size(); ++i) scalar(concat("experts/", ExpertUse::load_names[i]), loads[i]);
  if (!use.regularised) return;
  scalar("experts/balance", use.balance);
  scalar("experts/z", use.z);
}

KDLIB_TRAINING_RUN(void)::report(const StepSums& sums, double norm, double rate, const StepTimes& times) {
  StepReport r;
  r.step = step_;
  r.steps = last_step();
  r.loss = result_.loss = sums.loss.mean();
  r.gradient_norm = norm;
  r.rate = rate;
  r.tokens = step_tokens_;
  r.step_seconds = times.end - times.begin;
  r.tokens_per_s = r.step_seconds > 0 ? r.tokens / r.step_seconds : 0;
  r.seconds = seconds();
  r.skipped = sums.loss.weight <= 0;
  scalar("time", r.seconds);
  scalar("tokens", tokens_);
  scalar("train/loss", r.loss);
  scalar("train/grad_norm", norm);
  scalar("train/rate", rate);
  scalar("train/tokens", r.tokens);
  scalar("train/tokens_per_s", r.tokens_per_s);
  scalar("train/step_seconds", r.step_seconds);
  scalar("train/source_seconds", times.fetched - times.begin);
  if (r.skipped) scalar("train/skipped", 1);
  log_metrics(sums.metrics);
  log_experts(sums.experts);
  for (std::size_t i = 0; i < sums.span_loss.size(); ++i)
    if (sums.span_loss[i].weight > 0) scalar("train/loss/" + settings_.spans[i].name, sums.span_loss[i].mean());
  evaluate_if_due(false);
  sink_.flush();
  if (settings_.hooks != nullptr) settings_.hooks->on_step(r);
}

/// `last`: the run ends here, so it is due whatever the interval says.
KDLIB_TRAINING_RUN(void)::evaluate_if_due(bool last) {
  if (settings_.hooks == nullptr || settings_.evaluate_every <= 0 || evaluated_step_ == step_) return;
  last = last || step_ == last_step();
  if (!last && step_ % settings_.evaluate_every != 0) return;
  evaluated_step_ = step_;
  const Evaluation evaluation = settings_.hooks->evaluate(step_);
  for (const auto& [name, value] : evaluation.values) scalar(name, value);
  if (std::isnan(evaluation.best_by) || (result_.best_step >= 0 && evaluation.best_by >= result_.best_value)) return;
  result_.best_step = step_;
  result_.best_value = evaluation.best_by;
  const auto extra = [&](const std::string& folder) { settings_.hooks->write_files(folder, step_, true); };
  if constexpr (requires { store_.save_best(capture(false, false), extra); })
    store_.save_best(capture(false, false), extra);
}

KDLIB_TRAINING_RUN(TrainState)::capture(bool finished, bool with_moments) const {
  TrainState state;
  state.stage = context_.name;
  state.finished = finished;
  state.step = step_;
  state.skipped_steps = result_.skipped_steps;
  state.optimizer_steps = state_.steps();
  state.tokens = tokens_;
  state.seconds = seconds();
  state.best_step = result_.best_step;
  state.best_value = result_.best_value;
  state.source_cursor = source_.cursor();
  state.settings = list_;
  state.environment = environment_;
  for (Parameter<T, D>* p : student_.parameters()) {
    const bool carried = std::find(context_.carried.begin(), context_.carried.end(), p->name) != context_.carried.end();
    if (carried || std::find(trained_.begin(), trained_.end(), p) != trained_.end())
      state.parameters.push_back(to_host_tensor(p->name, p->value));
  }
  if (with_moments)
    for (const auto& [name, tensor] : state_.tensors()) state.moments.push_back(to_host_tensor(name, tensor));
  return state;
}

KDLIB_TRAINING_RUN(void)::save(bool finished) {
  const TrainState state = capture(finished, true);
  const auto extra = [&](const std::string& folder) {
    if (settings_.hooks != nullptr) settings_.hooks->write_files(folder, step_, false);
  };
  sink_.flush();
  if constexpr (requires { store_.save(state, extra); }) store_.save(state, extra);
  else store_.save(state);
  saved_step_ = step_;
  if constexpr (requires { store_.prune(settings_.keep); }) store_.prune(settings_.keep);
  if (settings_.hooks != nullptr) settings_.hooks->on_checkpoint(step_);
}

KDLIB_TRAINING_RUN(void)::message(std::string text) {
  if (settings_.hooks != nullptr) settings_.hooks->on_message(text);
  result_.messages.push_back(std::move(text));
}

}  // namespace detail
KDLIB_NAMESPACE_END

#undef KDLIB_TRAINING_RUN

#endif
