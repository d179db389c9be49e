// SPDX-License-Identifier: Apache-2.0
// Losses on the teacher's top-k in the CPU row engine: the support, the first sweep without it, value and gradient.
#ifndef KDLIB_BACKEND_CPU_ROWS_SUPPORT_INL_HPP
#define KDLIB_BACKEND_CPU_ROWS_SUPPORT_INL_HPP

#include "kdlib/backend/cpu/rows_inl.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// The support of a row from its task: sorted, without absent ids; an id that comes twice has the mass of both.
template <class T>
void gather_support(const TaskRow<T>& row, std::vector<std::uint64_t>& order, SupportRow& out) {
  const std::int64_t size = row.task.support_size, at = row.index * size;
  order.clear();
  for (std::int64_t k = 0; k < size; ++k) {
    const std::int32_t id = row.task.support_ids[at + k];
    if (id >= 0) order.push_back(static_cast<std::uint64_t>(id) << 32 | static_cast<std::uint64_t>(k));
  }
  std::sort(order.begin(), order.end());
  out.ids.clear(), out.log_t.clear();
  for (const std::uint64_t o : order) {
    const auto id = static_cast<std::int32_t>(o >> 32);
    const T stored = row.task.support_log_probs[at + static_cast<std::int64_t>(o & 0xFFFFFFFF)];
    const double log_p = at_least_lowest(static_cast<double>(stored));
    if (!out.ids.empty() && out.ids.back() == id) out.log_t.back() = log_of_both(out.log_t.back(), log_p);
    else out.ids.push_back(id), out.log_t.push_back(log_p);
  }
}

/// The first sweep with the mass outside the support apart. A block is summed whole and its part of the support taken
/// off where that is at most nine tenths of it (the difference then loses three bits); where it is more, the block is
/// summed again without the support, so a tail of 1e-12 is as exact as one of 0.1.
template <class Loops, class C, class T>
class SupportSweep {
 public:
  SupportSweep(const TaskRow<T>& row, double temperature, RowSweep<C>& out, SupportRow& support, std::vector<T>& masked)
      : row_(row), out_(out), support_(support), masked_(masked), first_(row, {.temperature = temperature}, out) {}

  void run() {
    const double temperature = out_.needs.temperature;
    SideSums& side = out_.sums.student;
    double inside = 0;
    for (const std::int64_t count : {std::min(row_.columns, row_block), row_.columns}) {
      double highest = first_.largest(row_.student, count);
      for (const std::int32_t id : support_.ids) highest = std::max(highest, static_cast<double>(row_.student[id]));
      out_.sums = {};
      side.anchor = highest;
      inside = 0;
      if ((highest > least_anchor || count == row_.columns) && add_blocks(count < row_.columns, inside)) break;
    }
    SideSums& outside = support_.outside = side;
    side.sum += inside;
    const bool any_outside = static_cast<std::int64_t>(support_.ids.size()) < row_.columns;
    // Far below the support the exponentials of the outside are no normal numbers of C about the row's anchor.
    if (any_outside && outside.sum < 1e-20 * side.sum) outside = sum_outside();
    const double log_outside =
        outside.sum > 0 ? (outside.anchor - side.anchor) / temperature + std::log(outside.sum) - std::log(side.sum)
                        : -std::numeric_limits<double>::infinity();
    support_.log_outside = any_outside ? at_least_lowest(log_outside) : log_outside;
    support_.log_s.clear();
    for (const std::int32_t id : support_.ids)
      support_.log_s.push_back(log_prob_of(row_.student[id], side, temperature));
    support_.derivative.assign(support_.ids.size(), 0.0);
  }

 private:
  /// Adds the mass outside the support to the student's sum and that of the support to `inside`. False where `may_stop`
  /// and an entry lies more than 20 T above the anchor.
  bool add_blocks(bool may_stop, double& inside) {
    SideSums& side = out_.sums.student;
    bool fits = true;
    over_blocks([&](std::int64_t first, std::int64_t count, std::size_t begin, std::size_t end) {
      const T* z = row_.student + first;
      double outside = first_.template block_sums<false, false>(out_.sums, z, nullptr, count, first).student.sum;
      fits = fits && !(may_stop && first_.too_high(side, z, count, outside));
      if (!fits) return;
      double here = 0;
      for (std::size_t k = begin; k < end; ++k)
        here += std::exp(at_least_lowest((static_cast<double>(row_.student[support_.ids[k]]) - side.anchor) /
                                         out_.needs.temperature));
      side.sum += here > 0.9 * outside ? masked_sum(out_.sums, first, count, begin, end) : outside - here;
      inside += here;
    });
    return fits;
  }

  /// The outside about its own largest entry.
  SideSums sum_outside() const {
    RowSums own;
    own.student.anchor = lowest_logit<C>;
    over_blocks([&](std::int64_t first, std::int64_t count, std::size_t begin, std::size_t end) {
      own.student.anchor =
          std::max(own.student.anchor, Loops::template largest<C>(masked_block(first, count, begin, end), count));
    });
    double sum = 0;
    over_blocks([&](std::int64_t first, std::int64_t count, std::size_t begin, std::size_t end) {
      sum += masked_sum(own, first, count, begin, end);
    });
    own.student.sum = sum;
    return own.student;
  }

  /// f(first, count, begin, end): a block and the slots of the support that lie in it.
  template <class F>
  void over_blocks(F&& f) const {
    std::size_t next = 0;
    for (std::int64_t first = 0; first < row_.columns; first += row_block) {
      const std::int64_t count = std::min(row_block, row_.columns - first);
      const std::size_t begin = next;
      while (next < support_.ids.size() && support_.ids[next] < first + count) ++next;
      f(first, count, begin, next);
    }
  }
  /// A block of the student's logits without those of the slots [begin, end).
  const T* masked_block(std::int64_t first, std::int64_t count, std::size_t begin, std::size_t end) const {
    masked_.assign(row_.student + first, row_.student + first + count);
    for (std::size_t k = begin; k < end; ++k)
      masked_[static_cast<std::size_t>(support_.ids[k] - first)] =
          static_cast<T>(-std::numeric_limits<float>::infinity());
    return masked_.data();
  }
  double masked_sum(const RowSums& base, std::int64_t first, std::int64_t count, std::size_t begin,
                    std::size_t end) const {
    const T* z = masked_block(first, count, begin, end);
    return first_.template block_sums<false, false>(base, z, nullptr, count, first).student.sum;
  }

  const TaskRow<T>& row_;
  RowSweep<C>& out_;
  SupportRow& support_;
  std::vector<T>& masked_;
  FirstSweep<Loops, C, T> first_;
};

inline void support_metrics(const SupportRow& support, double tail_loss, RowMetrics& m) {
  m.support_weight = 1;
  m.teacher_support_mass = 0;
  for (const double x : support.log_t) m.teacher_support_mass += std::exp(x);
  m.student_support_mass = -std::expm1(support.log_outside);
  m.tail_loss += tail_loss;
}

template <class Loops, class C, class T>
template <class Loss, class O>
void RowWalker<Loops, C, T>::support_term(const Loss& loss, double weight, const TaskRow<T>& row,
                                          RowSweeps<Loops, C, T>& sweeps, const TermOutput<C, O>& output,
                                          RowResult& result) {
  const double temperature = temperature_of(loss);
  RowSweep<C>& sweep = sweeps.apart();
  SupportRow& support = support_;
  gather_support(row, order_, support);
  SupportSweep<Loops, C, T>(row, temperature, sweep, support, masked_).run();
  const double log_tail_t = at_least_lowest(static_cast<double>(row.task.support_log_tail[row.index]));
  SupportPoint point{support.log_t, support.log_s, log_tail_t, support.log_outside, support.derivative};
  result.value += weight * factor_of(loss) * loss.on_support(point);
  if (row.task.metrics) support_metrics(support, weight * factor_of(loss) * point.tail_value, result.metrics);
  if (output.out == nullptr) return;
  // dL/dz_j = d_j - p_j S on the support and q_j (d_tail - r_s S) outside, S the sum of all derivatives, r_s the
  // student's mass outside and q_j = p_j / r_s the share of an entry in it.
  double sum = point.tail_derivative;
  for (const double d : support.derivative) sum += d;
  if (point.closed) sum = 0;
  RowConstants<C> c = sweep.constants();
  if (support.outside.sum > 0) {
    c.student = side_constants(support.outside, static_cast<const C*>(sweep.kept_s));
    c.subtract = static_cast<C>(std::exp(support.log_outside) * sum - point.tail_derivative);
  }
  const double scale = row.task.scale * row.weight * weight * factor_of(loss) / temperature;
  c.scale = static_cast<C>(scale);
  for (std::size_t k = 0; k < support.ids.size(); ++k) {  // `add` may be `out`: taken before the sweep
    double& d = support.derivative[k];
    d = scale * (d - std::exp(support.log_s[k]) * sum) +
        (output.add == nullptr ? 0.0 : static_cast<double>(output.add[support.ids[k]]));
  }
  Loops::template probabilities<C>(c, row.student, row.columns, output.out, output.add);
  for (std::size_t k = 0; k < support.ids.size(); ++k)
    output.out[support.ids[k]] = static_cast<O>(static_cast<C>(support.derivative[k]));
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
