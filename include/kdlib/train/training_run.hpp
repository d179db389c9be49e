// SPDX-License-Identifier: Apache-2.0
// The loop of one run: resume, steps, metrics, evaluation, checkpoints. Trainer makes it; programs do not.
#ifndef KDLIB_TRAIN_TRAINING_RUN_HPP
#define KDLIB_TRAIN_TRAINING_RUN_HPP

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kdlib/train/concepts.hpp"
#include "kdlib/train/gradient_step.hpp"
#include "kdlib/train/host_tensors.hpp"
#include "kdlib/train/run.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Seconds of a clock that only goes forward.
double monotonic_seconds();

template <class Student, class Source, class Objective, class Schedule, class OptimizerState, class Sink, class Store>
class TrainingRun {
  using T = typename Student::scalar_type;
  using D = typename Student::device_type;

  static_assert(
      requires(const std::vector<Parameter<T, D>*>& p) { measure_clip(p, 1.0); },
      "kdlib: the gradient norm is missing: include kdlib/optim/clip.hpp (kdlib/kdlib.hpp does)");
  static_assert(
      requires(View<T, D> rows, const typename Objective::loss_type& loss, Student& s,
               const typename Objective::teacher_type::targets_type& t) {
        head_loss(loss, s.head(), View<const T, D>(rows), t, RowInputs{}, 1.0, rows, s.head_parameter(),
                  {.metrics = true});
      },
      "kdlib: the fused head and loss is missing: include kdlib/loss/head_loss.hpp (kdlib/kdlib.hpp does)");

 public:
  TrainingRun(Student& student, Source& source, Objective& objective, const Schedule& schedule, OptimizerState& state,
              Sink& sink, Store& store, const RunSettings& settings, const StageContext& context,
              const std::vector<Parameter<T, D>*>& trained, SettingsList list)
      : student_(student),
        source_(source),
        objective_(objective),
        schedule_(schedule),
        state_(state),
        sink_(sink),
        store_(store),
        settings_(settings),
        context_(context),
        trained_(trained),
        list_(std::move(list)),
        gradient_(GradientSettings{.recompute = settings.recompute,
                                   .workspace_bytes = settings.workspace_bytes,
                                   .replay_routing = settings.replay_routing,
                                   .jensen_shannon = settings.jensen_shannon,
                                   .spans = !settings.spans.empty()}) {
    if (!settings.spans.empty()) spans_.emplace(settings.spans);
  }

  RunResult run();

 private:
  struct StepTimes {
    double begin = 0, fetched = 0, end = 0;
  };

  void start();
  void resume(const TrainState& saved);
  void check_same_settings(const TrainState& saved) const;
  void rewind_sink(std::int64_t step);
  bool take_step();
  bool fetch();
  void update(const StepSums& sums, double norm, double factor, double rate);
  void report(const StepSums& sums, double norm, double rate, const StepTimes& times);
  void log_metrics(const RowMetrics& m);
  void log_experts(const ExpertUse& use);
  void scalar(std::string_view name, double value) { sink_.scalar(name, step_, value); }
  void evaluate_if_due(bool last);
  void save(bool finished);
  TrainState capture(bool finished, bool with_moments) const;
  void message(std::string text);
  std::int64_t last_step() const { return context_.first_step + settings_.steps; }
  bool stop_requested() const { return settings_.stop != nullptr && settings_.stop->load(); }
  double seconds() const { return seconds_before_ + monotonic_seconds() - started_; }

  Student& student_;
  Source& source_;
  Objective& objective_;
  const Schedule& schedule_;
  OptimizerState& state_;
  Sink& sink_;
  Store& store_;
  const RunSettings& settings_;
  const StageContext& context_;
  const std::vector<Parameter<T, D>*>& trained_;
  SettingsList list_, environment_;
  GradientStep<Student, Objective> gradient_;
  std::vector<TokenBatch> batches_;
  std::optional<SpanWeights> spans_;
  double step_tokens_ = 0;  // weight of this step's rows, before spans_
  RunResult result_;
  std::int64_t step_ = 0, saved_step_ = -1, evaluated_step_ = -1;
  double tokens_ = 0, seconds_before_ = 0, started_ = 0;
};

}  // namespace detail
KDLIB_NAMESPACE_END

#include "kdlib/train/training_run_inl.hpp"

#endif
