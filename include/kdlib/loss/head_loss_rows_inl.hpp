// SPDX-License-Identifier: Apache-2.0
// Rows of a loss call, chunk by chunk: those of weight 0 are left out, the others gathered where that leaves gaps; and
// the teacher's logits of a chunk, whatever the targets are.
#ifndef KDLIB_LOSS_HEAD_LOSS_ROWS_INL_HPP
#define KDLIB_LOSS_HEAD_LOSS_ROWS_INL_HPP

#include <optional>
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
    p.take_inputs(rows, teacher_label, all, all ? count : static_cast<std::int64_t>(p.index.size()));
    return p;
  }
  /// All rows in order: the engine skips those of weight 0.
  static PackedRows every(const RowInputs& rows, std::span<const float> teacher_label, std::int64_t count) {
    PackedRows p;
    p.take_inputs(rows, teacher_label, true, count);
    return p;
  }
  /// Which of the R rows the i-th row that counts is.
  std::int64_t row(std::int64_t i) const { return all ? i : index[static_cast<std::size_t>(i)]; }
  double weight(std::int64_t r) const {
    return weights.empty() ? 1.0 : static_cast<double>(weights[static_cast<std::size_t>(r)]);
  }

  std::int64_t count = 0;
  bool all = true;

 private:
  void take_inputs(const RowInputs& rows, std::span<const float> teacher_labels, bool all_rows, std::int64_t n) {
    labels = take(rows.labels, index, all_rows);
    weights = take(rows.weights, index, all_rows);
    behaviour = take(rows.behaviour_log_probs, index, all_rows);
    teacher_label = take(teacher_labels, index, all_rows);
    all = all_rows, count = n;
  }
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

/// Rows of a matrix [R, width], gathered where rows are left out.
template <class T, class D>
class GatheredRows {
 public:
  GatheredRows() = default;  // of nothing
  GatheredRows(View<const T, D> all, const PackedRows& rows, std::int64_t chunk) : all_(all), rows_(&rows) {
    if (!rows.all) buffer_ = Buffer<T, D>(chunk * width());
  }
  std::int64_t width() const { return all_[1]; }
  const T* take(std::int64_t begin, std::int64_t count) {
    if (rows_->all) return all_.data() + begin * width();
    Kernels<D, T>::gather_rows(all_.data(), rows_->index.data() + begin, count, width(), buffer_.data());
    return buffer_.data();
  }

 private:
  View<const T, D> all_;
  const PackedRows* rows_ = nullptr;
  Buffer<T, D> buffer_;
};

/// z[count, columns] = softcap(logit_scale * (hidden W^T + bias)).
template <class T, class D>
void head_logits(const HeadView<T, D>& head, const T* hidden, std::int64_t count, std::int64_t columns,
                 logit_t<D, T>* z) {
  using L = logit_t<D, T>;
  const L scale = static_cast<L>(head.logit_scale);
  multiply_head(head, count, hidden, columns, scale, z);
  const HeadBias<T, D> bias(head);
  RowKernels<D, L>::modify_logits(bias.data(), scale, head.softcap, count, columns, z);
}

/// The teacher's logits of one chunk of rows after another: none, stored ones, or made in a buffer of [chunk, columns].
template <class T, class D, class Targets>
class TeacherChunks {
  using L = logit_t<D, T>;

 public:
  /// Whether logits are made for each chunk; the engine may then overwrite them.
  static constexpr bool makes_logits = is_hidden_targets<Targets> || WritesTeacherLogits<Targets, L, D>;

  /// `wanted`: the loss or the metrics read the teacher's rows.
  TeacherChunks(const Targets& targets, const PackedRows& rows, std::int64_t chunk, std::int64_t columns, bool wanted)
      : targets_(targets), rows_(rows), columns_(columns) {
    if constexpr (is_logit_targets<Targets>) stored_ = GatheredRows<L, D>(targets.logits, rows, chunk);
    if (!makes_logits || !wanted) return;
    made_ = Buffer<L, D>(chunk * columns);
    if constexpr (is_hidden_targets<Targets>) stored_ = GatheredRows<T, D>(targets.hidden, rows, chunk);
  }
  /// The buffer of made logits, nullptr without one.
  L* memory() { return made_.count() > 0 ? made_.data() : nullptr; }

  void fill(RowTask<L>& task, std::int64_t begin, std::int64_t count) {
    if constexpr (is_logit_targets<Targets>) {
      task.teacher = stored_.take(begin, count);
      task.teacher_stride = stored_.width();
    }
    if (memory() == nullptr) return;
    if constexpr (is_hidden_targets<Targets>)
      head_logits(targets_.head, stored_.take(begin, count), count, columns_, memory());
    else if constexpr (makes_logits) write_runs(begin, count);
    task.teacher = memory();
    task.teacher_stride = columns_;
    task.teacher_is_scratch = true;
  }

 private:
  /// One call for each run of rows that follow each other.
  void write_runs(std::int64_t begin, std::int64_t count) {
    for (std::int64_t i = 0, next = 0; i < count; i = next) {
      const std::int64_t first = rows_.row(begin + i);
      for (next = i + 1; next < count && rows_.row(begin + next) == first + (next - i);) ++next;
      targets_.write_logits(first, first + (next - i), View<L, D>(memory() + i * columns_, {next - i, columns_}));
    }
  }

  const Targets& targets_;
  const PackedRows& rows_;
  std::int64_t columns_;
  // Logits, which are given in L, or hidden states.
  GatheredRows<std::conditional_t<is_logit_targets<Targets>, L, T>, D> stored_;
  Buffer<L, D> made_;
};

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
