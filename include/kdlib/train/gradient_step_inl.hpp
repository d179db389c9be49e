// SPDX-License-Identifier: Apache-2.0
// Bodies of gradient_step.hpp.
#ifndef KDLIB_TRAIN_GRADIENT_STEP_INL_HPP
#define KDLIB_TRAIN_GRADIENT_STEP_INL_HPP

#include "kdlib/loss/cross_entropy.hpp"
#include "kdlib/loss/head_loss.hpp"
#include "kdlib/teacher/concepts.hpp"
#include "kdlib/tensor/take_rows.hpp"
#include "kdlib/train/gradient_step.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {
/// A view of [rows, width] at the front of `memory`, which grows when it is too small.
template <class T, class D>
View<T, D> reserved(Tensor<T, D>& memory, std::int64_t rows, std::int64_t width) {
  if (memory.count() < rows * width) {
    memory.reset();  // before the new memory is asked for: the old content is not needed
    memory = Tensor<T, D>(Shape{rows * width});
  }
  return View<T, D>(memory.data(), Shape{rows, width});
}

template <class Student>
auto record_forward(Student& student, const TokenBatch& batch, bool recompute, double share) {
  if constexpr (requires { student.forward_training(batch, {.recompute = true, .share = 1.0}); }) {
    return student.forward_training(batch, {.recompute = recompute, .share = share});
  } else if constexpr (requires { student.forward_training(batch, {.recompute = true}); }) {
    return student.forward_training(batch, {.recompute = recompute});
  } else {
    require<ConfigError>(
        !recompute, "[train] recompute is set, but this model's forward_training(batch) cannot recompute; unset it");
    return student.forward_training(batch);
  }
}
/// A teacher that wants to know what the student makes of the labels.
template <class Teacher>
concept ObservesRows = requires(Teacher& teacher, const TokenBatch::Rows& rows, const std::vector<double>& log_probs) {
  { teacher.observes() } -> std::same_as<bool>;
  teacher.observe(rows, log_probs);
};

HeadLossSettings head_loss_settings(const GradientSettings& s);

RowInputs inputs_of(const TokenBatch::Rows& rows, const RowRun& run);

/// log p_s(label) of each row: one more product with the head.
template <class T, class D>
std::vector<double> student_log_probs(const HeadView<T, D>& head, View<const T, D> row_hidden,
                                      const TokenBatch::Rows& rows, const GradientSettings& s) {
  HeadLossSettings settings{.row_values = true};
  if (s.workspace_bytes > 0) settings.workspace_bytes = s.workspace_bytes;
  std::vector<double> values = head_loss(CrossEntropy{}, head, row_hidden, NoTargets{}, RowInputs{rows.label, {}, {}},
                                         1.0, View<T, D>{}, static_cast<Parameter<T, D>*>(nullptr), settings)
                                   .row_values;
  for (double& value : values) value = -value;
  return values;
}

/// Codes that follow trained parameters (Decoder::hold_codes) are made once for the micro-batches of a step.
template <class Student>
class HeldCodes {
 public:
  explicit HeldCodes(Student& student) : student_(student) { hold(true); }
  HeldCodes(const HeldCodes&) = delete;
  HeldCodes& operator=(const HeldCodes&) = delete;
  ~HeldCodes() { hold(false); }

 private:
  void hold(bool held) {
    if constexpr (requires { student_.hold_codes(held); }) student_.hold_codes(held);
  }
  Student& student_;
};

void add_span_losses(std::vector<LossSum>& sums, const TokenBatch::Rows& rows, const std::vector<double>& values);

template <class Parameters>
void zero_trained(const Parameters& parameters) {
  for (auto* p : parameters)
    if (p->trainable) p->zero_gradient();
}
}  // namespace detail

template <class T, class D>
View<const T, D> RowBuffer<T, D>::gather(View<const T, D> hidden, std::span<const std::int64_t> token) {
  const std::int64_t width = hidden[1];
  const View<T, D> out = detail::reserved(rows_, static_cast<std::int64_t>(token.size()), width);
  take_rows<T, D>(hidden, token, out);
  return out;
}

template <class T, class D>
View<T, D> RowBuffer<T, D>::gradient(std::int64_t rows, std::int64_t width) {
  return detail::reserved(row_gradient_, rows, width);
}

template <class T, class D>
View<const T, D> RowBuffer<T, D>::scatter(View<const T, D> row_gradient, std::span<const std::int64_t> token,
                                          std::int64_t tokens) {
  const std::int64_t width = row_gradient[1];
  const View<T, D> out = detail::reserved(hidden_gradient_, tokens, width);
  Memory<D>::fill_zero(out.data(), static_cast<std::size_t>(tokens * width) * sizeof(T));
  each_row_run(token, [&](std::int64_t row, std::int64_t first, std::int64_t count) {
    Memory<D>::copy(out.data() + first * width, row_gradient.data() + row * width,
                    static_cast<std::size_t>(count * width) * sizeof(T));
  });
  return out;
}

template <class D>
void PendingSums<D>::read(HostReads<D>& reads) {
  for (const std::unique_ptr<Batch>& batch : batches_) {
    for (PendingHeadLoss<D>& loss : batch->losses) loss.read(reads);
    batch->use.read(reads);
  }
}

template <class D>
StepSums PendingSums<D>::sums() const {
  StepSums sums;
  for (const std::unique_ptr<Batch>& batch : batches_) {
    batch->use.add_to(sums.experts);
    HeadLossResult result = batch->losses[0].result();
    for (std::size_t i = 1; i < batch->losses.size(); ++i) result += batch->losses[i].result();
    sums.loss += result.loss;
    sums.metrics += result.metrics;
    sums.kl += result.kl;
    if (spans_) detail::add_span_losses(sums.span_loss, batch->rows, result.row_values);
  }
  if (spans_ && whole_ && !batches_.empty()) sums.loss.weight = 1;
  return sums;
}

template <class D>
StepSums PendingSums<D>::wait() {
  HostReads<D> reads;
  read(reads);
  reads.wait();
  return sums();
}

template <class Student, class Objective>
StepSums GradientStep<Student, Objective>::operator()(Student& student, Objective& objective,
                                                      std::span<const TokenBatch> batches) {
  return queue(student, objective, batches).wait();
}

template <class Student, class Objective>
PendingSums<typename Student::device_type> GradientStep<Student, Objective>::queue(
    Student& student, Objective& objective, std::span<const TokenBatch> batches) {
  detail::zero_trained(student.parameters());
  PendingSums<D> sums(settings_.spans, true);
  const double total = total_weight(batches);
  if (total <= 0) return sums;
  const detail::HeldCodes<Student> held(student);
  for (const TokenBatch& batch : batches)
    add_batch(student, objective, batch, settings_.spans ? 1 : 1 / total, batch.weight() / total, sums);
  return sums;
}

template <class Student, class Objective>
template <class Taken>
void GradientStep<Student, Objective>::slices(Student& student, Objective& objective,
                                              std::span<const TokenBatch> batches, double total, bool each_alone,
                                              Taken&& taken) {
  const auto parameters = student.parameters();
  detail::zero_trained(parameters);
  const detail::HeldCodes<Student> held(student);
  for (const TokenBatch& batch : batches) {
    PendingSums<D> sums(settings_.spans);
    add_batch(student, objective, batch, settings_.spans ? 1 : 1 / total, batch.weight() / total, sums);
    taken(sums.wait());
    if (each_alone) detail::zero_trained(parameters);
  }
}

/// Loss and gradient of all rows: one fused pass, or one for each run of rows that the teacher answers at once.
template <class Student, class Objective>
std::vector<PendingHeadLoss<typename Student::device_type>> GradientStep<Student, Objective>::head_pass(
    Student& student, Objective& objective, const TokenBatch::Rows& rows, View<const T, D> hidden, View<T, D> gradient,
    double scale) {
  std::vector<RowRun> runs;
  if constexpr (requires { objective.teacher().row_runs(); }) runs = objective.teacher().row_runs();
  if (runs.empty()) runs.push_back({0, hidden[0]});
  std::vector<PendingHeadLoss<D>> all;
  for (const RowRun& run : runs)
    all.push_back(queue_head_loss(objective.loss(), student.head(), hidden.rows(run.begin, run.count),
                                  objective.teacher().targets(run.begin, run.count), detail::inputs_of(rows, run),
                                  scale, gradient.rows(run.begin, run.count), student.head_parameter(),
                                  detail::head_loss_settings(settings_)));
  return all;
}

template <class Student, class Objective>
void GradientStep<Student, Objective>::add_batch(Student& student, Objective& objective, const TokenBatch& batch,
                                                 double scale, double share, PendingSums<D>& sums) {
  const TokenBatch::Rows rows = batch.rows();
  if (rows.token.empty()) return;
  auto& pending = sums.begin_batch();
  objective.teacher().prepare(batch);  // before the student records: the teacher's activations are gone by then
  RoutedPass<Student> pass(student, batch, settings_.replay_routing, pending.use);
  const auto hidden = detail::record_forward(student, batch, settings_.recompute, share);
  pass.count(share);
  const std::int64_t count = static_cast<std::int64_t>(rows.token.size()), width = hidden.view()[1];
  const View<const T, D> row_hidden = buffer_.gather(hidden.view(), rows.token);
  const View<T, D> row_gradient = buffer_.gradient(count, width);
  pending.losses = head_pass(student, objective, rows, row_hidden, row_gradient, scale);
  if constexpr (detail::ObservesRows<typename Objective::teacher_type>)
    if (objective.teacher().observes())
      objective.teacher().observe(rows, detail::student_log_probs(student.head(), row_hidden, rows, settings_));
  student.backward(buffer_.scatter(row_gradient, rows.token, batch.tokens()));
  if (settings_.spans) pending.rows = rows;
}

KDLIB_NAMESPACE_END

#endif
