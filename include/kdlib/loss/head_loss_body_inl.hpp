// SPDX-License-Identifier: Apache-2.0
// head_loss and row_loss themselves: a plan, then chunk after chunk.
#ifndef KDLIB_LOSS_HEAD_LOSS_BODY_INL_HPP
#define KDLIB_LOSS_HEAD_LOSS_BODY_INL_HPP

#include <vector>

#include "kdlib/loss/head_loss_rows_inl.hpp"
#include "kdlib/loss/head_threshold_inl.hpp"
#include "kdlib/loss/pending_head_loss_inl.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {

template <class T, class D>
void check_head(const char* who, const HeadView<T, D>& head, const View<const T, D>& hidden, std::int64_t rows) {
  require<ShapeError>(head.weight.rank() == 2 && hidden.rank() == 2 && hidden[1] == head.weight[1], "[head_loss] ", who,
                      ": hidden states ", hidden.shape(), " do not fit a head ", head.weight.shape());
  require<ShapeError>(hidden[0] == rows, "[head_loss] ", who, ": ", hidden[0], " hidden states for ", rows, " rows");
  require<ShapeError>(head.bias.empty() || head.bias.count() == head.weight[0], "[head_loss] ", who, ": a bias of ",
                      head.bias.count(), " for a head ", head.weight.shape());
  require<ConfigError>(head.softcap >= 0 && std::isfinite(head.logit_scale), "[head_loss] ", who, ": softcap is ",
                       head.softcap, " and logit_scale ", head.logit_scale, "; softcap must be >= 0");
}

/// The targets of `count` rows against a student's head of student_columns, student_real of them ids: the number of ids
/// that both softmaxes run over.
template <class L, class D, class Targets>
std::int64_t target_columns(const Targets& targets, std::int64_t count, std::int64_t student_columns,
                            std::int64_t student_real) {
  if constexpr (is_hidden_targets<Targets>) {
    check_head("teacher", targets.head, targets.hidden, count);
    return shared_columns(student_columns, student_real, targets.head.weight[0], targets.head.real_vocabulary);
  } else if constexpr (is_logit_targets<Targets>) {
    require<ShapeError>(targets.logits.rank() == 2 && targets.logits[0] == count, "[head_loss] teacher logits ",
                        targets.logits.shape(), " for ", count, " rows");
    return shared_columns(student_columns, student_real, targets.logits[1], targets.real_vocabulary);
  } else if constexpr (WritesTeacherLogits<Targets, L, D>) {
    require<ShapeError>(targets.row_count() == count, "[head_loss] targets of ", targets.row_count(), " rows for ",
                        count, " rows");
    return shared_columns(student_columns, student_real, targets.vocabulary(), targets.real_vocabulary());
  } else {
    return shared_columns(student_columns, student_real, student_columns, student_real);
  }
}

/// The teacher's log-probabilities of the labels where the targets hold them and no rows of logits.
template <class Targets>
std::span<const float> label_log_probs(const Targets& targets, std::int64_t count) {
  if constexpr (Targets::teacher_label && !Targets::teacher_rows && !gives_support<Targets>) {
    require<ShapeError>(targets.log_probs.size() == static_cast<std::size_t>(count), "[head_loss] ",
                        targets.log_probs.size(), " teacher log-probs for ", count, " rows");
    return targets.log_probs;
  }
  return {};
}

/// What head_loss works out before its first product.
template <class T>
struct HeadLossPlan {
  std::int64_t columns = 0;    // ids of both softmaxes
  bool backward = false;       // form gradients
  bool reads_teacher = false;  // the teacher's rows are read
  bool keeps_capped = false;   // the softcap's derivative needs the logits after the engine has written the gradient
  std::int64_t chunk = 0;      // rows
  double threshold = 0;        // HeadLossSettings::gradient_threshold
  PackedRows rows;
  SupportRows<T> support;
};

template <class Loss, class T, class D, class Targets>
HeadLossPlan<logit_t<D, T>> plan_head_loss(const Loss& loss, const HeadView<T, D>& student, View<const T, D> hidden,
                                           const Targets& targets, const RowInputs& inputs,
                                           const View<T, D>& hidden_gradient, const Parameter<T, D>* head,
                                           const HeadLossSettings& settings) {
  using L = logit_t<D, T>;
  const std::int64_t count = hidden[0];
  check_head("student", student, hidden, count);
  HeadLossPlan<L> plan;
  plan.columns = target_columns<L, D>(targets, count, student.weight[0], student.real_vocabulary);
  const std::span<const float> teacher_label = label_log_probs(targets, count);
  check_rows(inputs, count, plan.columns, has_label_part<Loss>);
  check_settings(loss, inputs);
  plan.support = support_of<Loss, L>(loss, targets, count, plan.columns);
  plan.backward = hidden_gradient.data() != nullptr && count > 0;
  require<ShapeError>(!plan.backward || hidden_gradient.shape() == hidden.shape(), "[head_loss] hidden_gradient ",
                      hidden_gradient.shape(), " is not ", hidden.shape());
  require<ShapeError>(head == nullptr || (plan.backward || count == 0),
                      "[head_loss] the head's gradient needs hidden_gradient too");
  require<ShapeError>(head == nullptr || head->value.shape() == student.weight.shape(),
                      "[head_loss] the head's parameter is not ", student.weight.shape());
  plan.threshold = settings.gradient_threshold;
  require<ConfigError>(plan.threshold >= 0 && plan.threshold < 1, "[head_loss] gradient_threshold is ", plan.threshold,
                       "; it must be in [0, 1)");
  plan.rows = PackedRows::of(inputs, teacher_label, count);
  plan.keeps_capped = plan.backward && student.softcap > 0;
  plan.reads_teacher = kdlib::reads_teacher<Loss> || reads_teacher_label<Loss> || settings.metrics;
  const bool makes_teacher = TeacherChunks<T, D, Targets>::makes_logits && plan.reads_teacher;
  const std::int64_t copies = 1 + (makes_teacher || plan.keeps_capped ? 1 : 0);
  plan.chunk = head_loss_chunk(plan.rows.count, plan.columns, copies, static_cast<std::int64_t>(sizeof(L)),
                               settings.workspace_bytes);
  return plan;
}

/// The rows [begin, begin + count) of those that count, without logits.
template <class T, class D>
RowTask<T> task_of(const PlacedRows<D>& rows, const PlacedSupport<T, D>& support, std::int64_t begin,
                   std::int64_t count, double scale, const HeadLossSettings& settings) {
  RowTask<T> task;
  rows.fill(task, begin, count);
  support.fill(task, begin);
  task.scale = scale;
  task.metrics = settings.metrics;
  task.jensen_shannon = settings.jensen_shannon;
  return task;
}

/// Takes the gradient of a chunk of logits [count, columns] back to the hidden states and, unless it is frozen, the
/// head.
template <class T, class D>
class HeadBackward {
  using L = logit_t<D, T>;

 public:
  HeadBackward(const HeadView<T, D>& student, View<T, D> hidden_gradient, Parameter<T, D>* head,
               const HeadLossPlan<L>& plan, const PlacedRows<D>& rows)
      : student_(student),
        out_(hidden_gradient),
        head_(head),
        plan_(plan),
        rows_(rows),
        kept_(student, plan.columns, plan.threshold) {
    if (plan.rows.all) return;
    Memory<D>::fill_zero(out_.data(), static_cast<std::size_t>(out_.count()) * sizeof(T));
    packed_ = Buffer<T, D>(plan.chunk * width());
  }

  /// `hidden` and `results` are of the chunk's rows; with a threshold results are on the host.
  void run(std::int64_t begin, std::int64_t count, const L* gradient, const T* hidden, RowResult* results) {
    const bool all = plan_.rows.all;
    T* out = all ? out_.data() + begin * width() : packed_.data();
    if (plan_.threshold > 0) {
      if constexpr (std::is_same_v<D, Cpu>)
        for (std::int64_t r = 0; r < count; r += threshold_rows)
          run_group(std::min(threshold_rows, count - r), gradient + r * plan_.columns, hidden + r * width(),
                    out + r * width(), results + r);
      else fail<BackendError>("[head_loss] gradient_threshold is not built for ", D::name, " yet; set it to 0");
    } else {
      run_all(count, gradient, hidden, out);
    }
    if (!all) Kernels<D, T>::scatter_add_rows(out, rows_.index(begin), count, width(), out_.data());
  }

 private:
  std::int64_t width() const { return student_.weight[1]; }
  accumulate_t<T> alpha() const { return static_cast<accumulate_t<T>>(student_.logit_scale); }

  void run_all(std::int64_t count, const L* gradient, const T* hidden, T* out) {
    multiply_head_back(student_, count, gradient, plan_.columns, alpha(), out);
    if (head_ != nullptr) add_head_gradient(count, alpha(), gradient, hidden);
  }
  void run_group(std::int64_t count, const L* gradient, const T* hidden, T* out, RowResult* results) {
    const double share = kept_.choose(count, gradient);
    for (std::int64_t r = 0; r < count; ++r)
      results[r].metrics.threshold_weight = 1, results[r].metrics.skipped_blocks = share;
    if (share > 0)
      kept_.multiply(count, alpha(), gradient, hidden, out, head_ ? head_->gradient_view().data() : nullptr);
    else run_all(count, gradient, hidden, out);
  }

  void add_head_gradient(std::int64_t count, accumulate_t<T> alpha, const L* gradient, const T* hidden) {
    gradient_t<T>* to = head_->gradient_view().data();
    if constexpr (!is_sixteen_bit<T> || HasMixedMatmul<D, T>)
      Kernels<D, T>::gemm(true, false, plan_.columns, width(), count, alpha, gradient, plan_.columns, hidden, width(),
                          1, to, width());
    else
      fail<BackendError>("[head_loss] the gradient of a head of 16 bits is not built for ", D::name,
                         " yet: freeze the head, or use float32");
  }

  const HeadView<T, D>& student_;
  View<T, D> out_;
  Parameter<T, D>* head_;
  const HeadLossPlan<L>& plan_;
  const PlacedRows<D>& rows_;
  Buffer<T, D> packed_;
  KeptColumns<T, D> kept_;
};

}  // namespace detail

template <class Loss, class T, class D, class Targets>
PendingHeadLoss<D> queue_head_loss(const Loss& loss, const HeadView<T, D>& student,
                                   std::type_identity_t<View<const T, D>> hidden, const Targets& targets,
                                   const RowInputs& inputs, double scale,
                                   std::type_identity_t<View<T, D>> hidden_gradient,
                                   std::type_identity_t<Parameter<T, D>*> head, const HeadLossSettings& settings) {
  detail::check_types<Loss, Targets>();
  static_assert(
      !Targets::teacher_rows || detail::is_logit_targets<Targets> || detail::TeacherChunks<T, D, Targets>::makes_logits,
      "targets with teacher_rows are LogitTargets, HiddenTargets, or give row_count(), vocabulary(), "
      "real_vocabulary() and write_logits(begin, end, out), see WritesTeacherLogits in "
      "kdlib/loss/concepts.hpp");
  using L = logit_t<D, T>;
  detail::HeadLossPlan<L> plan =
      detail::plan_head_loss<Loss, T, D>(loss, student, hidden, targets, inputs, hidden_gradient, head, settings);
  PendingHeadLoss<D> pending(hidden[0], plan.rows.count, settings);
  const std::int64_t columns = plan.columns;
  const detail::PlacedRows<D> rows(plan.rows);
  std::optional<detail::HeadBackward<T, D>> backward;
  if (plan.backward) backward.emplace(student, hidden_gradient, head, plan, rows);
  if (plan.rows.count == 0) return pending;

  detail::GatheredRows<T, D> student_rows(hidden, rows, plan.chunk);
  detail::TeacherChunks<T, D, Targets> teacher(targets, rows, plan.chunk, columns, plan.reads_teacher);
  const detail::PlacedSupport<L, D> support(plan.support, plan.rows);
  Buffer<L, D> logits(plan.chunk * columns);
  Buffer<L, D> apart(plan.keeps_capped && teacher.memory() == nullptr ? plan.chunk * columns : 0);
  L* kept = teacher.memory() == nullptr ? apart.data() : teacher.memory();
  L* gradient = plan.keeps_capped ? kept : logits.data();

  for (std::int64_t begin = 0; begin < plan.rows.count; begin += plan.chunk) {
    const std::int64_t n = std::min(plan.chunk, plan.rows.count - begin);
    RowTask<L> task = detail::task_of<L, D>(rows, support, begin, n, scale, settings);
    task.columns = task.student_stride = task.gradient_stride = columns;
    const T* x = student_rows.take(begin, n);
    detail::head_logits(student, x, n, columns, logits.data());
    task.student = logits.data();
    teacher.fill(task, begin, n);
    task.gradient = plan.backward ? gradient : nullptr;
    RowKernels<D, L>::run(loss, task, pending.at(begin));
    if (plan.keeps_capped) RowKernels<D, L>::softcap_backward(student.softcap, n, columns, logits.data(), gradient);
    if (plan.backward) backward->run(begin, n, gradient, x, pending.at(begin));
  }
  pending.keep(std::move(plan.rows));
  return pending;
}

template <class Loss, class T, class D, class Targets>
HeadLossResult head_loss(const Loss& loss, const HeadView<T, D>& student, std::type_identity_t<View<const T, D>> hidden,
                         const Targets& targets, const RowInputs& inputs, double scale,
                         std::type_identity_t<View<T, D>> hidden_gradient, std::type_identity_t<Parameter<T, D>*> head,
                         const HeadLossSettings& settings) {
  return queue_head_loss(loss, student, hidden, targets, inputs, scale, hidden_gradient, head, settings).wait();
}

template <class Loss, class T, class D, class Targets>
HeadLossResult row_loss(const Loss& loss, std::type_identity_t<View<const T, D>> student, const Targets& targets,
                        const RowInputs& inputs, double scale, View<T, D> gradient, const HeadLossSettings& settings) {
  detail::check_types<Loss, Targets>();
  static_assert(!Targets::teacher_rows || detail::is_logit_targets<Targets>,
                "row_loss reads logits: give LogitTargets, or use head_loss for HiddenTargets and for targets of your "
                "own");
  require<ShapeError>(student.rank() == 2, "[row_loss] student logits ", student.shape(), " must be [R, V]");
  const std::int64_t count = student[0];
  std::int64_t real = 0;
  if constexpr (detail::is_logit_targets<Targets>) real = targets.real_vocabulary;
  const std::int64_t columns = detail::target_columns<T, D>(targets, count, student[1], real);
  const std::span<const float> teacher_label = detail::label_log_probs(targets, count);
  detail::check_rows(inputs, count, columns, has_label_part<Loss>);
  detail::check_settings(loss, inputs);
  require<ShapeError>(gradient.data() == nullptr || gradient.shape() == student.shape(), "[row_loss] gradient ",
                      gradient.shape(), " is not ", student.shape());
  PendingHeadLoss<D> pending(count, count, settings);
  if (count == 0) return pending.result();

  detail::PackedRows packed = detail::PackedRows::every(inputs, teacher_label, count);
  const detail::PlacedRows<D> rows(packed);
  const detail::PlacedSupport<T, D> support(detail::support_of<Loss, T>(loss, targets, count, columns), packed);
  RowTask<T> task = detail::task_of<T, D>(rows, support, 0, count, scale, settings);
  task.columns = columns;
  task.student_stride = task.gradient_stride = student[1];
  task.student = student.data();
  task.gradient = gradient.data();
  if constexpr (detail::is_logit_targets<Targets>)
    task.teacher = targets.logits.data(), task.teacher_stride = targets.logits[1];
  RowKernels<D, T>::run(loss, task, pending.at(0));
  if (gradient.data() != nullptr && columns < student[1])
    for (std::int64_t r = 0; r < count; ++r)
      Memory<D>::fill_zero(gradient.data() + r * student[1] + columns,
                           static_cast<std::size_t>(student[1] - columns) * sizeof(T));
  pending.keep(std::move(packed));
  return pending.wait();
}

template <class T, class D>
void write_head_logits(const HeadView<T, D>& head, std::type_identity_t<View<const T, D>> hidden,
                       std::type_identity_t<View<logit_t<D, T>, D>> out) {
  detail::check_head("write_head_logits", head, hidden, hidden[0]);
  require<ShapeError>(out.rank() == 2 && out[0] == hidden[0] && out[1] <= head.weight[0], "[write_head_logits] out ",
                      out.shape(), " for hidden states ", hidden.shape(), " and a head ", head.weight.shape());
  detail::head_logits(head, hidden.data(), hidden[0], out[1], out.data());
}

KDLIB_NAMESPACE_END

#endif
