// SPDX-License-Identifier: Apache-2.0
// The training loop: student, data or rollouts, objective, optimizer and schedule, put together at compile time.
#ifndef KDLIB_TRAIN_TRAINER_HPP
#define KDLIB_TRAIN_TRAINER_HPP

#include <type_traits>
#include <utility>

#include "kdlib/train/checkpoint.hpp"
#include "kdlib/train/concepts.hpp"
#include "kdlib/train/gradient_step.hpp"
#include "kdlib/train/metrics.hpp"
#include "kdlib/train/run.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {
/// The default selection: what the model itself marks as trainable.
struct MarkedTrainable {};

template <class M>
concept HasBackend = requires {
  typename M::device_type;
  typename M::scalar_type;
  requires HasKernels<typename M::device_type, typename M::scalar_type>;
};
template <class M>
concept NamesDevice = requires {
  typename M::device_type;
  typename M::scalar_type;
};
}  // namespace detail

/// One training setup. The student is borrowed; a source that is an lvalue is borrowed, a temporary is kept.
///
/// A step takes all its micro-batches from the source first, adds their row weights, and forms the gradient of
/// sum(weight * loss) / sum(weight): splitting the same rows otherwise changes nothing but the order of additions. It
/// clips by the global norm, updates, reports and saves. The state of the optimizer lives inside run().
///
/// Metrics of a step ("train/..."): loss, forward_kl, reverse_kl, student_entropy, teacher_entropy, top1_agreement,
/// top5_overlap, top5_contains, label_log_prob, label_top1, label_rank, js (where the loss is JensenShannon{}, or
/// RunSettings::jensen_shannon), teacher_support_mass, student_support_mass, tail_loss (losses on the teacher's top-k),
/// clamp_fraction (sampled-token losses with limits), skipped_blocks (RunSettings::gradient_threshold); means over
/// rows, those that the targets or the loss cannot tell are left out; see RowMetrics. loss/<span> and tokens/<span>,
/// its denominator, with RunSettings::spans. grad_norm (before clipping), rate, tokens (weight of the rows),
/// tokens_per_s, step_seconds, skipped (1, only where a step had no row). Mixtures of experts add "experts/...":
/// entropy, max_share and the histogram of loads of ExpertUse; balance and z where a router policy is set.
///
/// A source may offer weigh_rows(std::span<TokenBatch>), which needs RunSettings::spans: it is called once a step with
/// all batches, behind SpanWeights, and may multiply row weights, so that its factors are in the loss and not in the
/// denominators; several ranks are refused then. And step_metrics(): pairs (name, value) that are logged with the step.
/// A teacher may offer observes() and observe(rows, log_probs): where the first is true, the second is told of each
/// batch what the student makes of the labels before the update ([R] natural log-probabilities), for one more product
/// with the head. And step_metrics(), as a source's; left out where several ranks train together.
template <class Student, class Source, class Objective, class Optimizer, class Schedule>
class Trainer {
  using SourceType = std::remove_reference_t<Source>;
  static_assert(
      !detail::NamesDevice<Student> || detail::HasBackend<Student>,
      "kdlib: no backend for the student's device and scalar type: include kdlib/backend/cpu.hpp (float, double) or "
      "kdlib/backend/cuda.hpp before the trainer is used");
  static_assert(LanguageModel<Student>,
                "kdlib: the first argument of Trainer is not a LanguageModel (device_type, scalar_type, vocab_size(), "
                "hidden_size(), parameters(), "
                "forward(batch), forward_training(batch), backward(gradient), head(), head_parameter()); use "
                "kd::Decoder or see kdlib/train/concepts.hpp");
  static_assert(DataSource<SourceType> || RolloutSource<SourceType, Student>,
                "kdlib: the second argument of Trainer is neither a DataSource (next(), cursor(), seek(cursor)) nor a "
                "RolloutSource of this student "
                "(next(student), cursor(), seek(cursor)); see kdlib/data/concepts.hpp and kdlib/rollout/concepts.hpp");
  static_assert(
      requires {
        typename Objective::teacher_type;
        typename Objective::loss_type;
      },
      "kdlib: the third argument of Trainer is not an objective; write kd::Objective{teacher, loss}");
  static_assert(!hides_teacher<typename Objective::loss_type>,
                "kdlib: entry(row, x) of the objective's loss takes an Entry, which holds p_t and log_ratio of the "
                "teacher, but the loss does not say `static constexpr bool reads_teacher = true`; say so, or take a "
                "StudentEntry");
  static_assert(
      RowLossShape<typename Objective::loss_type> || hides_teacher<typename Objective::loss_type>,
      "kdlib: the loss of the objective is not a row loss (entry(row, x), at_label(point), or a kd::Sum of such); "
      "see kdlib/loss/concepts.hpp");
  static_assert(!RowLossShape<typename Objective::loss_type> ||
                    RowLoss<typename Objective::loss_type, typename Objective::teacher_type::targets_type>,
                "kdlib: the loss reads more of the teacher than its targets tell: a divergence over the vocabulary "
                "needs the teacher's rows (kd::LiveTeacher, or kd::CachedHiddenTeacher on a cache of hidden states); "
                "a cache of the most probable tokens serves kd::TopKForwardKl and kd::TopKReverseKl; a sampled-token "
                "loss needs the teacher's log-probability of the label");
  static_assert(kdlib::Optimizer<Optimizer, typename Student::scalar_type, typename Student::device_type>,
                "kdlib: the fourth argument of Trainer is not an optimizer (state<T, D>(parameters, rates) with step, "
                "steps, set_steps, tensors); "
                "use kd::AdamW or kd::Sgd, or see kdlib/optim/concepts.hpp");
  static_assert(kdlib::Schedule<Schedule>,
                "kdlib: the fifth argument of Trainer is not a schedule (schedule(step) gives the rate); use "
                "kd::ConstantRate, kd::WarmupLinear or "
                "kd::WarmupCosine");

 public:
  using T = typename Student::scalar_type;
  using D = typename Student::device_type;

  Trainer(Student& student, Source&& source, Objective objective, Optimizer optimizer, Schedule schedule)
      : student_(student),
        source_(std::forward<Source>(source)),
        objective_(std::move(objective)),
        optimizer_(std::move(optimizer)),
        schedule_(std::move(schedule)) {}

  /// Trains what the model marks as trainable, from the store's newest checkpoint on where it has one.
  /// ConfigError: nothing to train, settings that differ from the checkpoint's (naming the key). TrainingError: a loss
  /// or gradient that is not finite (naming the step). IoError: the sink or the store refuses.
  template <class Sink, class Store>
  RunResult run(const RunSettings& settings, Sink&& sink, Store&& store) {
    return run(settings, sink, store, detail::MarkedTrainable{});
  }
  /// Keeps no checkpoints.
  template <class Sink>
  RunResult run(const RunSettings& settings, Sink&& sink) {
    NoCheckpoints store;
    return run(settings, sink, store, detail::MarkedTrainable{});
  }
  RunResult run(const RunSettings& settings) {
    NoMetrics sink;
    return run(settings, sink);
  }

  /// Trains the parameters that `selection` names (kd::only("*.mlp.*")) for the time of the run, whatever they were
  /// marked before. A pipeline gives its place in `context`.
  template <class Sink, class Store, class Selection>
  RunResult run(const RunSettings& settings, Sink&& sink, Store&& store, const Selection& selection,
                const StageContext& context = {});

  Student& student() { return student_; }
  SourceType& source() { return source_; }
  Objective& objective() { return objective_; }
  const Optimizer& optimizer() const { return optimizer_; }
  const Schedule& schedule() const { return schedule_; }

 private:
  template <class Selection, class Scope>
  SettingsList described(const RunSettings& settings, const Selection& selection, const Scope& scope);

  Student& student_;
  Source source_;
  Objective objective_;
  Optimizer optimizer_;
  Schedule schedule_;
};

template <class Student, class Source, class Objective, class Optimizer, class Schedule>
Trainer(Student&, Source&&, Objective, Optimizer, Schedule) -> Trainer<Student, Source, Objective, Optimizer, Schedule>;

KDLIB_NAMESPACE_END

#include "kdlib/train/trainer_inl.hpp"
#if KDLIB_HEADER_ONLY
#include "kdlib/train/run_settings_inl.hpp"
#endif

#endif
