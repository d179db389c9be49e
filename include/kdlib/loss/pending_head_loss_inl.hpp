// SPDX-License-Identifier: Apache-2.0
// PendingHeadLoss of head_loss.hpp: rows' results that a device may still be working on.
#ifndef KDLIB_LOSS_PENDING_HEAD_LOSS_INL_HPP
#define KDLIB_LOSS_PENDING_HEAD_LOSS_INL_HPP

#include <utility>
#include <vector>

#include "kdlib/loss/head_loss_rows_inl.hpp"

KDLIB_NAMESPACE_BEGIN

template <class D>
class PendingHeadLoss {
 public:
  PendingHeadLoss() = default;
  /// Of `count` rows, those of `rows` among them with a weight.
  PendingHeadLoss(std::int64_t count, std::int64_t counted, const HeadLossSettings& settings)
      : settings_(settings), count_(count), here_(static_cast<std::size_t>(counted)) {
    if constexpr (!std::is_same_v<D, Cpu>) there_ = Buffer<RowResult, D>(counted);
  }

  /// Adds what the host has to read to `reads`; result() comes behind their wait. The object stays where it is until
  /// then.
  void read(HostReads<D>& reads) {
    if constexpr (!std::is_same_v<D, Cpu>) reads.add(there_.data(), there_.count(), here_.data());
    else static_cast<void>(reads);
  }
  /// Queues the check of every row's value, on a device that has one; L is the type of logits.
  template <class L>
  void check(GradientFactor* factor) const {
    RowKernels<D, L>::check_values(there_.data(), there_.count(), factor);
  }
  /// The rows are added in their order. InputError where a device found an id of the teacher's top-k outside the
  /// vocabulary.
  HeadLossResult result() const {
    HeadLossResult total;
    if (settings_.row_values) total.row_values.assign(static_cast<std::size_t>(count_), 0.0);
    for (std::int64_t i = 0; i < static_cast<std::int64_t>(here_.size()); ++i) add_row(total, i);
    return total;
  }
  /// The same, after a wait of its own.
  HeadLossResult wait() {
    HostReads<D> reads;
    read(reads);
    reads.wait();
    return result();
  }

  /// For head_loss: where the engine writes row i of those that count, and the rows once everything is queued.
  RowResult* at(std::int64_t i) { return (std::is_same_v<D, Cpu> ? here_.data() : there_.data()) + i; }
  void keep(detail::PackedRows rows) { rows_ = std::move(rows); }

 private:
  void add_row(HeadLossResult& total, std::int64_t i) const {
    const RowResult& row = here_[static_cast<std::size_t>(i)];
    const double w = rows_.weight(i);
    if (w == 0) return;
    require<InputError>(row.wrong_id == 0, "[head_loss] top-k id ", row.wrong_id, " of row ", rows_.row(i),
                        " is outside the vocabulary (-1 marks an absent entry)");
    total.loss += {w * row.value, w};
    if (settings_.metrics) total.metrics += detail::weighted(row.metrics, w);
    if (settings_.metrics && row.metrics.teacher_weight > 0) total.kl.add(row.metrics.forward_kl, w);
    if (settings_.row_values) total.row_values[static_cast<std::size_t>(rows_.row(i))] = row.value;
  }

  HeadLossSettings settings_;
  std::int64_t count_ = 0;
  detail::PackedRows rows_;
  std::vector<RowResult> here_;
  Buffer<RowResult, D> there_;  // empty on the host
};

KDLIB_NAMESPACE_END

#endif
