// SPDX-License-Identifier: Apache-2.0
// Bodies of training_run.hpp: the steps of a run and how it ends. training_start_inl.hpp has its beginning.
#ifndef KDLIB_TRAIN_TRAINING_RUN_INL_HPP
#define KDLIB_TRAIN_TRAINING_RUN_INL_HPP

#include <algorithm>
#include <cmath>
#include <utility>

#include "kdlib/core/clock.hpp"
#include "kdlib/optim/clip.hpp"
#include "kdlib/tensor/queued_phase.hpp"
#include "kdlib/train/environment.hpp"
#include "kdlib/train/step_metrics.hpp"
#include "kdlib/train/training_ahead_inl.hpp"
#include "kdlib/train/training_ranks_inl.hpp"
#include "kdlib/train/training_run.hpp"
#include "kdlib/train/training_start_inl.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

template <class Types>
RunResult TrainingRun<Types>::run() {
  started_ = steady_seconds();
  {
    const StopScope shield(nullptr);
    start();
  }
  while (goes_on()) {
    try {
      result_.exhausted = !take_step();
    } catch (const StopRequested&) {  // fetch() has put the source back
      result_.stopped = true;
      break;
    }
    const bool due = (settings_.save_every > 0 && step_ % settings_.save_every == 0) || save_asked_;
    if (due && step_ < last_step() && step_ != saved_step_ && result_.finish_reason.empty()) save(false);
  }
  const StopScope shield(nullptr);
  if (!ahead_.empty()) give_back(place());
  if (!result_.stopped) evaluate_if_due(true);  // which may be stopped, too
  result_.finished = !result_.stopped;
  if (step_ != saved_step_ || (result_.finished && !saved_finished_)) save(result_.finished);
  result_.step = result_.student_step = step_;
  if (result_.finished && settings_.save == SaveRule::best) give_best();
  result_.seconds = seconds();
  return std::move(result_);
}

template <class Types>
bool TrainingRun<Types>::goes_on() {
  if (step_ >= last_step() || result_.exhausted || result_.stopped || !result_.finish_reason.empty()) return false;
  if (!ranks_) result_.stopped = stop_requested();  // ranks agree on it in the step
  return !result_.stopped;
}

/// Adds the source's next batch to those of the step; false at the end.
template <class Types>
bool TrainingRun<Types>::take_batch() {
  std::optional<TokenBatch> batch;
  if constexpr (DataSource<Source>) batch = source_.next();
  else batch = source_.next(student_);
  if (!batch) return false;
  batch->check(student_.vocab_size());
  batches_.push_back(std::move(*batch));
  // A teacher on another machine works on this batch while the next one is made.
  if constexpr (requires { objective_.teacher().announce(batches_.back()); })
    objective_.teacher().announce(batches_.back());
  return true;
}

/// Factors of the source's own, behind the denominators.
template <class Types>
void TrainingRun<Types>::weigh_by_source() {
  if constexpr (WeighsRows<Source>) source_.weigh_rows(batches_);
}

template <class Types>
bool TrainingRun<Types>::fetch() {
  batches_.clear();
  const auto before = source_.cursor();
  try {
    while (static_cast<std::int64_t>(batches_.size()) < settings_.micro_batches) {
      check_stop();
      if (!take_batch()) break;
    }
  } catch (const StopRequested&) {
    source_.seek(before);
    throw;
  }
  return !batches_.empty();
}

/// The gradient of the step's batches. A request to stop in the middle of it gives back to the source what the step had
/// taken: no weight has changed, and the step is taken again when the run goes on.
template <class Types>
PendingSums<typename Types::StudentType::device_type> TrainingRun<Types>::gradient_or_give_back(
    const SourceCursor& before) {
  try {
    return gradient_.queue(student_, objective_, batches_);
  } catch (const StopRequested&) {
    give_back(before);
    throw;
  }
}

template <class Types>
bool TrainingRun<Types>::take_step() {
  if (ranks_) return take_ranked_step();
  StepTimes times;
  times.begin = steady_seconds();
  const SourceCursor before = place();
  if (!take_fetched() && !fetch()) return false;
  times.fetched = steady_seconds();
  fetch_ahead(before);
  step_tokens_ = total_weight(batches_);
  if (spans_) spans_->weigh(batches_);  // every span its own denominator, fixed here for all micro-batches
  weigh_by_source();
  QueuedPhase<D> queued;
  PendingSums<D> pending = gradient_or_give_back(before);
  const StopScope shield(nullptr);  // from here on the step is taken whole
  PendingNorm<D> norm(trained_);
  update_queued_ = queue_update(pending, norm);
  queued.end();
  HostReads<D> reads;  // the step's only wait for a device
  pending.read(reads);
  norm.read(reads);
  reads.wait();
  end_step(pending.sums(), norm.norm(), clip_factor(norm.norm(), settings_.clip_norm), times);
  return true;
}

/// On a device that forms the factor of clipping: the update behind the gradient, which nobody has waited for. False
/// where update() makes it.
template <class Types>
bool TrainingRun<Types>::queue_update(const PendingSums<D>& pending, PendingNorm<D>& norm) {
  if constexpr (FormsFactor<D, gradient_t<T>> && requires(GradientFactor * there) { state_.step(0.0, there); }) {
    if (pending.empty() || shard_ != nullptr) return false;
    GradientFactor* const factor = norm.template factor<gradient_t<T>>(settings_.clip_norm);
    pending.template check<logit_t<D, T>>(factor);
    state_.step(schedule_(step_ - context_.first_step), factor);
    return true;
  } else {
    static_cast<void>(pending), static_cast<void>(norm);
    return false;
  }
}

/// What follows when the gradient is there.
template <class Types>
void TrainingRun<Types>::end_step(const StepSums& sums, double norm, double factor, StepTimes times) {
  const double rate = schedule_(step_ - context_.first_step);
  ++step_;
  update(sums, norm, factor, rate);
  times.end = steady_seconds();
  report(sums, norm, rate, times);
}

template <class Types>
void TrainingRun<Types>::update(const StepSums& sums, double norm, double factor, double rate) {
  if (sums.loss.weight <= 0) {
    ++result_.skipped_steps;
    message(skipped_text(step_));
    return;
  }
  const bool queued = std::exchange(update_queued_, false);
  const char* what = !std::isfinite(sums.loss.sum) ? "loss" : !std::isfinite(norm) ? "gradient" : nullptr;
  if (what != nullptr) {
    if (queued) state_.set_steps(state_.steps() - 1);  // the device has left everything as it was
    fail_not_finite(step_, what, saved_step_, state_.steps() == 0, sums, norm, rate);
  }
  tokens_ += step_tokens_;
  if (!queued) state_.step(rate, factor);
  if (shard_ != nullptr) shard_->share_values();
}

template <class Types>
void TrainingRun<Types>::report(const StepSums& sums, double norm, double rate, const StepTimes& times) {
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
  log_step(r, times, sums);
  evaluate_if_due(false);
  flush();
  if (settings_.hooks == nullptr) return;
  settings_.hooks->on_step(r);
  save_asked_ = any_rank(settings_.hooks->wants_checkpoint(r));
  result_.finish_reason = text_of_first(settings_.hooks->finish_reason(r));
}

template <class Types>
void TrainingRun<Types>::log_step(const StepReport& r, const StepTimes& times, const StepSums& sums) {
  NamedValues values =
      step_values(r, tokens_, times.fetched - times.begin, sums, settings_.spans, spans_ ? &*spans_ : nullptr);
  values.insert(values.end(), rank_values_.begin(), rank_values_.end());
  if constexpr (requires { source_.step_metrics(); })
    for (const auto& [name, value] : source_.step_metrics()) values.emplace_back(name, value);
  if constexpr (requires { objective_.teacher().step_metrics(); }) {
    // Of this rank's slices alone, so that with several ranks they would depend on the division; the group dp/ may.
    for (const auto& [name, value] : objective_.teacher().step_metrics())
      if (!ranks_ || name.rfind("dp/", 0) == 0) values.emplace_back(name, value);
  }
  for (const auto& [name, value] : values) scalar(name, value);
}

/// `last`: the run ends here, so it is due whatever the interval says.
template <class Types>
void TrainingRun<Types>::evaluate_if_due(bool last) {
  if (settings_.hooks == nullptr || settings_.evaluate_every <= 0 || evaluated_step_ == step_) return;
  last = last || step_ == last_step();
  if (!last && step_ % settings_.evaluate_every != 0) return;
  Evaluation evaluation;
  bool stopped = false;
  try {
    evaluation = settings_.hooks->evaluate(step_);
  } catch (const StopRequested&) {
    stopped = true;
  }
  if (any_rank(stopped)) {
    evaluation_pending_ = result_.stopped = true;
    return;
  }
  evaluation = evaluation_of_first(std::move(evaluation));
  evaluation_pending_ = false;
  evaluated_step_ = step_;
  for (const auto& [name, value] : evaluation.values) scalar(name, value);
  if (std::isnan(evaluation.best_by) || (result_.best_step >= 0 && evaluation.best_by >= result_.best_value)) return;
  result_.best_step = step_;
  result_.best_value = evaluation.best_by;
  const auto extra = [&](const std::string& folder) { settings_.hooks->write_files(folder, step_, true); };
  // A RankedStore calls `extra` on the first rank alone.
  if constexpr (requires { store_.save_best(capture(false, false), extra); })
    store_.save_best(capture(false, false), extra);
}

template <class Types>
TrainState TrainingRun<Types>::capture(bool finished, bool with_moments) const {
  TrainState state;
  state.stage = context_.name;
  state.first_step = context_.first_step;
  state.finished = finished;
  state.finish_reason = finished ? result_.finish_reason : std::string();
  state.step = step_;
  state.skipped_steps = result_.skipped_steps;
  state.optimizer_steps = state_.steps();
  state.tokens = tokens_;
  state.seconds = seconds();
  state.loss = result_.loss;
  state.evaluated_step = evaluated_step_;
  state.evaluation_pending = evaluation_pending_;
  state.best_step = result_.best_step;
  state.best_value = result_.best_value;
  state.source_cursor = place();
  state.settings = list_;
  state.environment = environment_;
  for (Parameter<T, D>* p : student_.parameters()) {
    const bool carried = std::find(context_.carried.begin(), context_.carried.end(), p->name) != context_.carried.end();
    if (carried || std::find(trained_.begin(), trained_.end(), p) != trained_.end())
      state.parameters.push_back(to_host_tensor(*p));
  }
  if (with_moments)
    for (const auto& [name, tensor] : state_.tensors()) state.moments.push_back(to_host_tensor(name, tensor));
  if (with_moments && shard_ != nullptr) state.moments = shard_->gather(state.moments);
  return state;
}

template <class Types>
void TrainingRun<Types>::save(bool finished) {
  const TrainState state = capture(finished, true);
  const auto extra = [&](const std::string& folder) {
    if (settings_.hooks != nullptr) settings_.hooks->write_files(folder, step_, false);
  };
  flush();
  if constexpr (requires { store_.save(state, extra); }) store_.save(state, extra);
  else store_.save(state);
  saved_step_ = step_;
  saved_finished_ = finished;
  prune();
  if (settings_.hooks != nullptr && leads()) settings_.hooks->on_checkpoint(step_);
}

template <class Types>
void TrainingRun<Types>::prune() {
  if constexpr (requires { store_.prune(settings_.keep); })
    if (settings_.save != SaveRule::all) store_.prune(settings_.keep);
}

/// Puts the best state's parameters into the student, behind the last checkpoint.
template <class Types>
void TrainingRun<Types>::give_best() {
  if constexpr (requires { store_.best()->parameters; }) {
    const auto best = result_.best_step >= 0 && result_.best_step != step_ ? store_.best() : std::nullopt;
    if (result_.best_step == step_) return;
    if (!best) return message("no evaluation has chosen a best state: the student keeps the last one");
    require<IoError>(best->best_step == result_.best_step, "[run] the store's best state is of step ", best->best_step,
                     " and the run's is step ", result_.best_step, ": the folder best/ is of another run");
    load_parameters(best->parameters, student_.parameters());
    result_.student_step = best->best_step;
  }
}

template <class Types>
void TrainingRun<Types>::message(std::string text) {
  if (settings_.hooks != nullptr) settings_.hooks->on_message(text);
  result_.messages.push_back(std::move(text));
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
