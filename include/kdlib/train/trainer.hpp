// SPDX-License-Identifier: Apache-2.0
// The training loop: combines a student, data or rollouts, an objective, an optimizer and a schedule at compile time.
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
/// The default selection: the parameters that the model itself marks as trainable.
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

/// One training setup. The student is borrowed. A source that is an lvalue is borrowed; a temporary source is moved
/// into the trainer.
///
/// A step first takes all its micro-batches from the source and adds their row weights. It then forms the gradient of
/// sum(weight * loss) / sum(weight), so that another division of the same rows into micro-batches changes only the
/// order of additions. After that the step clips the gradient by its global norm, updates the parameters, reports and
/// saves. The state of the optimizer lives inside run().
///
/// Each step logs metrics with names "train/...". Means over rows (RowMetrics) are loss, forward_kl, reverse_kl,
/// student_entropy, teacher_entropy, top1_agreement, top5_overlap, top5_contains, label_log_prob, label_top1,
/// label_rank, js (if the loss is JensenShannon{} or RunSettings::jensen_shannon is set), teacher_support_mass,
/// student_support_mass and tail_loss (losses on the teacher's top-k), clamp_fraction (sampled-token losses with
/// limits) and skipped_blocks (RunSettings::gradient_threshold). Means that the targets or the loss do not allow are
/// left out. kl_std, kl_min and kl_max tell the spread of forward_kl over the rows. With RunSettings::spans there are
/// loss/<span> and tokens/<span>, the span's denominator. Further metrics are grad_norm (before clipping), rate, tokens
/// (sum of the row weights), tokens_per_s, step_seconds, source_seconds (time to fetch the batches) and skipped (1,
/// only if the step had no row). Mixtures of experts add "experts/...": entropy, max_share and the histogram of loads
/// of ExpertUse, and balance and z if a router policy is set.
///
/// A source may offer weigh_rows(std::span<TokenBatch>), which requires RunSettings::spans. It is called once in each
/// step with all batches, after SpanWeights, and may multiply row weights. Its factors are then part of the loss but
/// not of the denominators. Such a source cannot be used on several ranks. A source may also offer step_metrics(),
/// which returns pairs (name, value) that are logged with the step.
/// A teacher may offer observes() and observe(rows, log_probs). If observes() is true, observe() receives, for each
/// batch, the student's natural log-probabilities of the labels before the update, [R]; they cost one more product with
/// the head. A teacher may also offer step_metrics(), as a source; on several ranks only its metrics "dp/..." are
/// logged.
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

  /// Trains the parameters that the model marks as trainable. If the store has a checkpoint, the run continues from the
  /// newest one. ConfigError: there is nothing to train, or a setting differs from that of the checkpoint (the message
  /// names the key). TrainingError, naming the step: a loss or a gradient is not finite. IoError: the sink or the store
  /// cannot write.
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

  /// Trains the parameters that `selection` chooses, for example kd::only("*.mlp.*"), whatever the model marks as
  /// trainable. The marks change only for the time of the run. A pipeline passes the place of the stage in `context`.
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
