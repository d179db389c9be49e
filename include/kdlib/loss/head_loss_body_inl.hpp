// SPDX-License-Identifier: Apache-2.0
// head_loss and row_loss themselves.
#ifndef KDLIB_LOSS_HEAD_LOSS_BODY_INL_HPP
#define KDLIB_LOSS_HEAD_LOSS_BODY_INL_HPP

#include <vector>

#include "kdlib/loss/head_loss_inl.hpp"
#include "kdlib/quant/head_product.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {

template <class X>
constexpr bool is_hidden_targets = false;
template <class T, class D>
constexpr bool is_hidden_targets<HiddenTargets<T, D>> = true;
template <class X>
constexpr bool is_logit_targets = false;
template <class T, class D>
constexpr bool is_logit_targets<LogitTargets<T, D>> = true;

/// The teacher's top-k of a call, without its types.
template <class T>
struct SupportRows {
  const std::int32_t* ids = nullptr;
  const T* log_probs = nullptr;
  const T* log_tail = nullptr;
  std::int64_t size = 0;
};
/// The host's copy of a top-k that lies on another device.
template <class T>
struct SupportCopy {
  std::vector<std::int32_t> ids;
  std::vector<T> log_probs, log_tail;
};
template <class X, class D>
const X* on_host(const View<const X, D>& view, std::vector<X>& copy) {
  if constexpr (std::is_same_v<D, Cpu>) return view.data();
  copy.resize(static_cast<std::size_t>(view.count()));
  Memory<D>::to_host(copy.data(), view.data(), copy.size() * sizeof(X));
  return copy.data();
}
template <class Loss, class T, class Targets>
SupportRows<T> support_of(const Loss& loss, const Targets& targets, std::int64_t count, std::int64_t columns,
                          SupportCopy<T>& copy) {
  SupportRows<T> s;
  if constexpr (gives_support<Targets>) {
    require<ShapeError>(targets.ids.rank() == 2 && targets.ids[0] == count &&
                            targets.log_probs.shape() == targets.ids.shape() && targets.log_tail.count() == count,
                        "[head_loss] top-k ids ", targets.ids.shape(), ", log-probs ", targets.log_probs.shape(),
                        ", log-tail ", targets.log_tail.shape(), " for ", count, " rows");
    s = {on_host(targets.ids, copy.ids), on_host(targets.log_probs, copy.log_probs),
         on_host(targets.log_tail, copy.log_tail), targets.ids[1]};
    check_support_ids(s.ids, count, s.size, columns);
    check_support_temperature(loss, targets.temperature);
    check_support_size(loss, s.size);
  }
  return s;
}

/// Row inputs of the rows that count, densely.
struct PackedRows {
  std::vector<std::int64_t> index;  // which of the R rows; empty: all of them, in order
  std::vector<std::int32_t> labels;
  std::vector<float> weights, behaviour, teacher_label;

  static PackedRows of(const RowInputs& rows, std::span<const float> teacher_label, std::int64_t count) {
    PackedRows p;
    bool all = true;
    for (const float w : rows.weights) all = all && w != 0;
    if (!all)
      for (std::int64_t r = 0; r < count; ++r)
        if (rows.weights[static_cast<std::size_t>(r)] != 0) p.index.push_back(r);
    p.labels = take(rows.labels, p.index, all);
    p.weights = take(rows.weights, p.index, all);
    p.behaviour = take(rows.behaviour_log_probs, p.index, all);
    p.teacher_label = take(teacher_label, p.index, all);
    p.count = all ? count : static_cast<std::int64_t>(p.index.size());
    p.all = all;
    return p;
  }
  double weight(std::int64_t r) const {
    return weights.empty() ? 1.0 : static_cast<double>(weights[static_cast<std::size_t>(r)]);
  }

  std::int64_t count = 0;
  bool all = true;

 private:
  template <class X>
  static std::vector<X> take(std::span<const X> from, const std::vector<std::int64_t>& index, bool all) {
    if (all || from.empty()) return std::vector<X>(from.begin(), from.end());
    std::vector<X> out;
    for (const std::int64_t r : index) out.push_back(from[static_cast<std::size_t>(r)]);
    return out;
  }
};

template <class X>
const X* at_or_null(const std::vector<X>& v, std::int64_t i) {
  return v.empty() ? nullptr : v.data() + i;
}

template <class T>
void fill_inputs(RowTask<T>& task, const PackedRows& rows, std::int64_t begin, std::int64_t count) {
  task.rows = count;
  task.labels = at_or_null(rows.labels, begin);
  task.weights = at_or_null(rows.weights, begin);
  task.behaviour = at_or_null(rows.behaviour, begin);
  task.teacher_label = at_or_null(rows.teacher_label, begin);
}

/// The top-k of rows [begin, begin + count), gathered where rows are left out.
template <class T>
class SupportChunk {
 public:
  void fill(RowTask<T>& task, const SupportRows<T>& all, const PackedRows& rows, std::int64_t begin,
            std::int64_t count) {
    task.support_size = all.size;
    if (all.ids == nullptr) return;
    if (rows.all) {
      task.support_ids = all.ids + begin * all.size, task.support_log_probs = all.log_probs + begin * all.size,
      task.support_log_tail = all.log_tail + begin;
      return;
    }
    ids_.clear(), log_probs_.clear(), log_tail_.clear();
    for (std::int64_t i = begin; i < begin + count; ++i) {
      const std::int64_t r = rows.index[static_cast<std::size_t>(i)];
      ids_.insert(ids_.end(), all.ids + r * all.size, all.ids + (r + 1) * all.size);
      log_probs_.insert(log_probs_.end(), all.log_probs + r * all.size, all.log_probs + (r + 1) * all.size);
      log_tail_.push_back(all.log_tail[r]);
    }
    task.support_ids = ids_.data(), task.support_log_probs = log_probs_.data(),
    task.support_log_tail = log_tail_.data();
  }

 private:
  std::vector<std::int32_t> ids_;
  std::vector<T> log_probs_, log_tail_;
};

/// Adds one chunk's rows to the result, in row order.
inline void collect_rows(HeadLossResult& total, const std::vector<RowResult>& results, const PackedRows& rows,
                         std::int64_t begin, std::int64_t count, const HeadLossSettings& settings) {
  for (std::int64_t i = 0; i < count; ++i) {
    const RowResult& row = results[static_cast<std::size_t>(i)];
    const double w = rows.weight(begin + i);
    if (w == 0) continue;
    total.loss += {w * row.value, w};
    if (settings.metrics) total.metrics += weighted(row.metrics, w);
    if (settings.metrics && row.metrics.teacher_weight > 0) total.kl.add(row.metrics.forward_kl, w);
    if (settings.row_values)
      total.row_values[static_cast<std::size_t>(
          rows.all ? begin + i : rows.index[static_cast<std::size_t>(begin + i)])] = row.value;
  }
}

/// Views of hidden rows, gathered where rows are left out.
template <class T, class D>
class HiddenRows {
 public:
  HiddenRows(View<const T, D> hidden, const PackedRows& rows, std::int64_t chunk) : hidden_(hidden), rows_(rows) {
    if (!rows.all) buffer_ = Buffer<T, D>(chunk * width());
  }
  std::int64_t width() const { return hidden_[1]; }
  const T* take(std::int64_t begin, std::int64_t count) {
    if (rows_.all) return hidden_.data() + begin * width();
    Kernels<D, T>::gather_rows(hidden_.data(), rows_.index.data() + begin, count, width(), buffer_.data());
    return buffer_.data();
  }

 private:
  View<const T, D> hidden_;
  const PackedRows& rows_;
  Buffer<T, D> buffer_;
};

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

/// z[count, columns] = softcap(logit_scale * (hidden W^T + bias)).
template <class T, class D>
void head_logits(const HeadView<T, D>& head, const T* hidden, std::int64_t count, std::int64_t columns, T* z) {
  const T scale = static_cast<T>(head.logit_scale);
  multiply_head(head, count, hidden, columns, scale, z);
  RowKernels<D, T>::modify_logits(head.bias.empty() ? nullptr : head.bias.data(), scale, head.softcap, count, columns,
                                  z);
}

}  // namespace detail

template <class Loss, class T, class D, class Targets>
HeadLossResult head_loss(const Loss& loss, const HeadView<T, D>& student, std::type_identity_t<View<const T, D>> hidden,
                         const Targets& targets, const RowInputs& inputs, double scale,
                         std::type_identity_t<View<T, D>> hidden_gradient, std::type_identity_t<Parameter<T, D>*> head,
                         const HeadLossSettings& settings) {
  detail::check_types<Loss, Targets>();
  const std::int64_t count = hidden[0];
  constexpr bool teacher_hidden = detail::is_hidden_targets<Targets>,
                 teacher_logits = detail::is_logit_targets<Targets>;
  detail::check_head("student", student, hidden, count);
  std::int64_t columns =
      detail::shared_columns(student.weight[0], student.real_vocabulary, student.weight[0], student.real_vocabulary);
  std::span<const float> teacher_label;
  if constexpr (teacher_hidden) {
    detail::check_head("teacher", targets.head, targets.hidden, count);
    columns = detail::shared_columns(student.weight[0], student.real_vocabulary, targets.head.weight[0],
                                     targets.head.real_vocabulary);
  } else if constexpr (teacher_logits) {
    require<ShapeError>(targets.logits.rank() == 2 && targets.logits[0] == count, "[head_loss] teacher logits ",
                        targets.logits.shape(), " for ", count, " rows");
    columns =
        detail::shared_columns(student.weight[0], student.real_vocabulary, targets.logits[1], targets.real_vocabulary);
  } else if constexpr (Targets::teacher_label && !gives_support<Targets>) {
    teacher_label = targets.log_probs;
    require<ShapeError>(teacher_label.size() == static_cast<std::size_t>(count), "[head_loss] ", teacher_label.size(),
                        " teacher log-probs for ", count, " rows");
  }
  detail::check_rows(inputs, count, columns, has_label_part<Loss>);
  detail::check_settings(loss, inputs);
  detail::SupportCopy<T> support_copy;
  const detail::SupportRows<T> support = detail::support_of<Loss, T>(loss, targets, count, columns, support_copy);
  detail::SupportChunk<T> support_chunk;
  const bool backward = hidden_gradient.data() != nullptr && count > 0;
  require<ShapeError>(!backward || hidden_gradient.shape() == hidden.shape(), "[head_loss] hidden_gradient ",
                      hidden_gradient.shape(), " is not ", hidden.shape());
  require<ShapeError>(head == nullptr || (backward || count == 0),
                      "[head_loss] the head's gradient needs hidden_gradient too");
  require<ShapeError>(head == nullptr || head->value.shape() == student.weight.shape(),
                      "[head_loss] the head's parameter is not ", student.weight.shape());

  HeadLossResult total;
  if (settings.row_values) total.row_values.assign(static_cast<std::size_t>(count), 0.0);
  const detail::PackedRows rows = detail::PackedRows::of(inputs, teacher_label, count);
  if (backward && !rows.all)
    Memory<D>::fill_zero(hidden_gradient.data(), static_cast<std::size_t>(hidden_gradient.count()) * sizeof(T));
  if (rows.count == 0) return total;

  // The softcap's derivative needs the logits after the engine has written the gradient: it goes to the teacher's
  // buffer or to its own.
  const bool capped = backward && student.softcap > 0;
  const bool project_teacher = teacher_hidden && (reads_teacher<Loss> || reads_teacher_label<Loss> || settings.metrics);
  const std::int64_t copies = 1 + (project_teacher ? 1 : 0) + (capped && !project_teacher ? 1 : 0);
  const std::int64_t chunk =
      head_loss_chunk(rows.count, columns, copies, static_cast<std::int64_t>(sizeof(T)), settings.workspace_bytes);
  const std::int64_t width = student.weight[1];
  Buffer<T, D> student_chunk(chunk * columns), teacher_chunk(project_teacher ? chunk * columns : 0),
      cap_chunk(capped && !project_teacher ? chunk * columns : 0);
  detail::HiddenRows<T, D> student_rows(hidden, rows, chunk);
  Buffer<T, D> packed_gradient(backward && !rows.all ? chunk * width : 0), gathered_logits;
  std::vector<RowResult> results(static_cast<std::size_t>(chunk));
  const T alpha = static_cast<T>(student.logit_scale);

  for (std::int64_t begin = 0; begin < rows.count; begin += chunk) {
    const std::int64_t n = std::min(chunk, rows.count - begin);
    RowTask<T> task;
    detail::fill_inputs(task, rows, begin, n);
    support_chunk.fill(task, support, rows, begin, n);
    task.columns = task.student_stride = task.teacher_stride = task.gradient_stride = columns;
    task.scale = scale;
    task.metrics = settings.metrics;
    task.jensen_shannon = settings.jensen_shannon;
    const T* x = student_rows.take(begin, n);
    detail::head_logits(student, x, n, columns, student_chunk.data());
    task.student = student_chunk.data();
    if constexpr (teacher_hidden) {
      if (project_teacher) {
        detail::HiddenRows<T, D> teacher_rows(targets.hidden, rows, n);
        detail::head_logits(targets.head, teacher_rows.take(begin, n), n, columns, teacher_chunk.data());
        task.teacher = teacher_chunk.data();
        task.teacher_is_scratch = true;
      }
    } else if constexpr (teacher_logits) {
      task.teacher_stride = targets.logits[1];
      if (rows.all) {
        task.teacher = targets.logits.data() + begin * task.teacher_stride;
      } else {
        if (gathered_logits.count() == 0) gathered_logits = Buffer<T, D>(chunk * task.teacher_stride);
        Kernels<D, T>::gather_rows(targets.logits.data(), rows.index.data() + begin, n, task.teacher_stride,
                                   gathered_logits.data());
        task.teacher = gathered_logits.data();
      }
    }
    T* gradient = !capped ? student_chunk.data() : (project_teacher ? teacher_chunk.data() : cap_chunk.data());
    task.gradient = backward ? gradient : nullptr;
    RowKernels<D, T>::run(loss, task, results.data());
    detail::collect_rows(total, results, rows, begin, n, settings);
    if (!backward) continue;
    if (capped) RowKernels<D, T>::softcap_backward(student.softcap, n, columns, student_chunk.data(), gradient);
    T* out = rows.all ? hidden_gradient.data() + begin * width : packed_gradient.data();
    detail::multiply_head_back(student, n, gradient, columns, alpha, out);
    if (!rows.all) Kernels<D, T>::scatter_add_rows(out, rows.index.data() + begin, n, width, hidden_gradient.data());
    if (head != nullptr)
      Kernels<D, T>::gemm(true, false, columns, width, n, alpha, gradient, columns, x, width, T(1.0f),
                          head->gradient_view().data(), width);
  }
  return total;
}

template <class Loss, class T, class D, class Targets>
HeadLossResult row_loss(const Loss& loss, std::type_identity_t<View<const T, D>> student, const Targets& targets,
                        const RowInputs& inputs, double scale, View<T, D> gradient, const HeadLossSettings& settings) {
  detail::check_types<Loss, Targets>();
  static_assert(!detail::is_hidden_targets<Targets>,
                "row_loss reads logits: give LogitTargets, or use head_loss for HiddenTargets");
  require<ShapeError>(student.rank() == 2, "[row_loss] student logits ", student.shape(), " must be [R, V]");
  const std::int64_t count = student[0];
  RowTask<T> task;
  task.columns = task.student_stride = task.gradient_stride = student[1];
  std::span<const float> teacher_label;
  if constexpr (detail::is_logit_targets<Targets>) {
    require<ShapeError>(targets.logits.rank() == 2 && targets.logits[0] == count, "[row_loss] teacher logits ",
                        targets.logits.shape(), " for ", count, " rows");
    task.teacher = targets.logits.data();
    task.teacher_stride = targets.logits[1];
    task.columns =
        detail::shared_columns(student[1], targets.real_vocabulary, targets.logits[1], targets.real_vocabulary);
  } else if constexpr (Targets::teacher_label && !gives_support<Targets>) {
    teacher_label = targets.log_probs;
    require<ShapeError>(teacher_label.size() == static_cast<std::size_t>(count), "[row_loss] ", teacher_label.size(),
                        " teacher log-probs for ", count, " rows");
  }
  detail::check_rows(inputs, count, task.columns, has_label_part<Loss>);
  detail::check_settings(loss, inputs);
  require<ShapeError>(gradient.data() == nullptr || gradient.shape() == student.shape(), "[row_loss] gradient ",
                      gradient.shape(), " is not ", student.shape());
  HeadLossResult total;
  if (settings.row_values) total.row_values.assign(static_cast<std::size_t>(count), 0.0);
  if (count == 0) return total;
  detail::PackedRows rows;  // all rows; the engine skips those of weight 0
  rows.labels.assign(inputs.labels.begin(), inputs.labels.end());
  rows.weights.assign(inputs.weights.begin(), inputs.weights.end());
  rows.behaviour.assign(inputs.behaviour_log_probs.begin(), inputs.behaviour_log_probs.end());
  rows.teacher_label.assign(teacher_label.begin(), teacher_label.end());
  detail::fill_inputs(task, rows, 0, count);
  rows.count = count;
  detail::SupportCopy<T> support_copy;
  detail::SupportChunk<T> support_chunk;
  support_chunk.fill(task, detail::support_of<Loss, T>(loss, targets, count, task.columns, support_copy), rows, 0,
                     count);
  task.student = student.data();
  task.gradient = gradient.data();
  task.scale = scale;
  task.metrics = settings.metrics;
  task.jensen_shannon = settings.jensen_shannon;
  std::vector<RowResult> results(static_cast<std::size_t>(count));
  RowKernels<D, T>::run(loss, task, results.data());
  if (gradient.data() != nullptr && task.columns < student[1])
    for (std::int64_t r = 0; r < count; ++r)
      Memory<D>::fill_zero(gradient.data() + r * student[1] + task.columns,
                           static_cast<std::size_t>(student[1] - task.columns) * sizeof(T));
  detail::collect_rows(total, results, rows, 0, count, settings);
  return total;
}

KDLIB_NAMESPACE_END

#endif
