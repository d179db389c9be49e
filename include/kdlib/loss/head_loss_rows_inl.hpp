// SPDX-License-Identifier: Apache-2.0
// Rows of a loss call, chunk by chunk: those of weight 0 are left out, the others gathered where that leaves gaps; and
// the teacher's logits of a chunk, whatever the targets are.
#ifndef KDLIB_LOSS_HEAD_LOSS_ROWS_INL_HPP
#define KDLIB_LOSS_HEAD_LOSS_ROWS_INL_HPP

#include <optional>
#include <vector>

#include "kdlib/loss/head_loss_inl.hpp"
#include "kdlib/quant/head_product.hpp"
#include "kdlib/tensor/take_rows.hpp"

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

/// The teacher's top-k of a call on its device, without its types.
template <class T>
struct SupportRows {
  const std::int32_t* ids = nullptr;
  const T* log_probs = nullptr;
  const T* log_tail = nullptr;
  std::int64_t size = 0;
};
template <class Loss, class T, class Targets>
SupportRows<T> support_of(const Loss& loss, const Targets& targets, std::int64_t count, std::int64_t columns) {
  SupportRows<T> s;
  if constexpr (gives_support<Targets>) {
    require<ShapeError>(targets.ids.rank() == 2 && targets.ids[0] == count &&
                            targets.log_probs.shape() == targets.ids.shape() && targets.log_tail.count() == count,
                        "[head_loss] top-k ids ", targets.ids.shape(), ", log-probs ", targets.log_probs.shape(),
                        ", log-tail ", targets.log_tail.shape(), " for ", count, " rows");
    s = {targets.ids.data(), targets.log_probs.data(), targets.log_tail.data(), targets.ids[1]};
    if constexpr (std::is_same_v<std::decay_t<decltype(targets.ids)>, View<const std::int32_t, Cpu>>)
      check_support_ids(s.ids, count, s.size, columns);  // a device looks itself: RowResult::wrong_id
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

  static PackedRows of(const RowInputs& rows, std::span<const float> teacher_label, std::int64_t count);
  /// All rows in order: the engine skips those of weight 0.
  static PackedRows every(const RowInputs& rows, std::span<const float> teacher_label, std::int64_t count);
  /// Which of the R rows the i-th row that counts is.
  std::int64_t row(std::int64_t i) const { return all ? i : index[static_cast<std::size_t>(i)]; }
  double weight(std::int64_t r) const {
    return weights.empty() ? 1.0 : static_cast<double>(weights[static_cast<std::size_t>(r)]);
  }

  std::int64_t count = 0;
  bool all = true;

 private:
  void take_inputs(const RowInputs& rows, std::span<const float> teacher_labels, bool all_rows, std::int64_t n);
};

/// A host array where a device reads it: itself, or a copy that is queued.
template <class X, class D>
class PlacedArray {
 public:
  PlacedArray() = default;
  explicit PlacedArray(const std::vector<X>& host) {
    if constexpr (std::is_same_v<D, Cpu>) {
      data_ = host.data();
    } else {
      copy_ = Buffer<X, D>(static_cast<std::int64_t>(host.size()));
      Memory<D>::from_host(copy_.data(), host.data(), host.size() * sizeof(X));
      data_ = copy_.data();
    }
    if (host.empty()) data_ = nullptr;
  }
  const X* at(std::int64_t i) const { return data_ == nullptr ? nullptr : data_ + i; }

 private:
  Buffer<X, D> copy_;
  const X* data_ = nullptr;
};

/// The inputs of a call's rows where the engine reads them, placed there once for all chunks. `rows` stays.
template <class D>
class PlacedRows {
 public:
  explicit PlacedRows(const PackedRows& rows)
      : rows_(rows),
        index_(rows.index),
        labels_(rows.labels),
        weights_(rows.weights),
        behaviour_(rows.behaviour),
        teacher_label_(rows.teacher_label) {}
  const PackedRows& host() const { return rows_; }
  bool all() const { return rows_.all; }
  /// Which rows the i-th one that counts and those behind it are, where some are left out.
  const std::int64_t* index(std::int64_t i) const { return index_.at(i); }

  template <class T>
  void fill(RowTask<T>& task, std::int64_t begin, std::int64_t count) const {
    task.rows = count;
    task.labels = labels_.at(begin);
    task.weights = weights_.at(begin);
    task.behaviour = behaviour_.at(begin);
    task.teacher_label = teacher_label_.at(begin);
  }

 private:
  const PackedRows& rows_;
  PlacedArray<std::int64_t, D> index_;
  PlacedArray<std::int32_t, D> labels_;
  PlacedArray<float, D> weights_, behaviour_, teacher_label_;
};

/// The top-k of the rows that count, gathered where rows are left out.
template <class T, class D>
class PlacedSupport {
 public:
  PlacedSupport(const SupportRows<T>& all, const PackedRows& rows) : used_(all) {
    if (all.ids == nullptr || rows.all) return;
    used_.ids = gathered(all.ids, all.size, rows, ids_);
    used_.log_probs = gathered(all.log_probs, all.size, rows, log_probs_);
    used_.log_tail = gathered(all.log_tail, 1, rows, log_tail_);
  }
  void fill(RowTask<T>& task, std::int64_t begin) const {
    task.support_size = used_.size;
    if (used_.ids == nullptr) return;
    task.support_ids = used_.ids + begin * used_.size;
    task.support_log_probs = used_.log_probs + begin * used_.size;
    task.support_log_tail = used_.log_tail + begin;
  }

 private:
  template <class X>
  static const X* gathered(const X* from, std::int64_t width, const PackedRows& rows, Buffer<X, D>& to) {
    to = Buffer<X, D>(rows.count * width);
    each_row_run(rows.index, [&](std::int64_t place, std::int64_t row, std::int64_t count) {
      Memory<D>::copy(to.data() + place * width, from + row * width,
                      static_cast<std::size_t>(count * width) * sizeof(X));
    });
    return to.data();
  }

  SupportRows<T> used_;
  Buffer<std::int32_t, D> ids_;
  Buffer<T, D> log_probs_, log_tail_;
};

/// Rows of a matrix [R, width], gathered where rows are left out.
template <class T, class D>
class GatheredRows {
 public:
  GatheredRows() = default;  // of nothing
  GatheredRows(View<const T, D> all, const PlacedRows<D>& rows, std::int64_t chunk) : all_(all), rows_(&rows) {
    if (!rows.all()) buffer_ = Buffer<T, D>(chunk * width());
  }
  std::int64_t width() const { return all_[1]; }
  const T* take(std::int64_t begin, std::int64_t count) {
    if (rows_->all()) return all_.data() + begin * width();
    Kernels<D, T>::gather_rows(all_.data(), rows_->index(begin), count, width(), buffer_.data());
    return buffer_.data();
  }

 private:
  View<const T, D> all_;
  const PlacedRows<D>* rows_ = nullptr;
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
  TeacherChunks(const Targets& targets, const PlacedRows<D>& rows, std::int64_t chunk, std::int64_t columns,
                bool wanted)
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
      const std::int64_t first = rows_.host().row(begin + i);
      for (next = i + 1; next < count && rows_.host().row(begin + next) == first + (next - i);) ++next;
      targets_.write_logits(first, first + (next - i), View<L, D>(memory() + i * columns_, {next - i, columns_}));
    }
  }

  const Targets& targets_;
  const PlacedRows<D>& rows_;
  std::int64_t columns_;
  // Logits, which are given in L, or hidden states.
  GatheredRows<std::conditional_t<is_logit_targets<Targets>, L, T>, D> stored_;
  Buffer<L, D> made_;
};

}  // namespace detail
KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/loss/packed_rows_inl.hpp"
#endif

#endif
