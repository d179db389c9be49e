// SPDX-License-Identifier: Apache-2.0
// The first sweep over a row: anchors, sums of exponentials and moments, and what the second sweep needs of them.
#ifndef KDLIB_BACKEND_CPU_ROWS_STATISTICS_INL_HPP
#define KDLIB_BACKEND_CPU_ROWS_STATISTICS_INL_HPP

#include "kdlib/backend/cpu/rows_inl.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Fills a RowSweep by what it is asked for.
template <class Loops, class C, class T>
class FirstSweep {
 public:
  FirstSweep(const TaskRow<T>& row, const SweepNeeds& needs, RowSweep<C>& out) : row_(row), out_(out) {
    out_.needs = needs;
    out_.kept_s = out_.kept_t = nullptr;
    if constexpr (keeps_exponentials<C, T>) {
      out_.kept_s = at_least(out_.memory_s, row.columns);
      if (needs.teacher) out_.kept_t = at_least(out_.memory_t, row.columns);
    }
  }

  void run() {
    if (out_.needs.teacher && out_.needs.moments) sweep<true, true>();
    else if (out_.needs.teacher) sweep<true, false>();
    else if (out_.needs.moments) sweep<false, true>();
    else sweep<false, false>();
  }

  /// The sums of a block about the anchors `base`; s and t point at its first entry, `first` is that entry's id.
  template <bool Teacher, bool Moments>
  RowSums block_sums(const RowSums& base, const T* s, const T* t, std::int64_t count, std::int64_t first) const {
    RowSums block;
    const double temperature = out_.needs.temperature;
    Loops::template block_statistics<C, T, Teacher, Moments>(
        s, t, count, base, static_cast<C>(1.4426950408889634 / temperature),
        static_cast<C>(lowest_log_prob * temperature), out_.kept_s == nullptr ? nullptr : out_.kept_s + first,
        out_.kept_t == nullptr ? nullptr : out_.kept_t + first, block);
    return block;
  }
  /// Whether a block whose exponentials add up to `sum` holds an entry more than 20 T above the anchor. Below e^13 none
  /// can be there, so the block's largest entry is looked for only beyond that.
  bool too_high(const SideSums& side, const T* z, std::int64_t count, double sum) const {
    return sum > 4e5 && Loops::template largest<C>(z, count) - side.anchor > 20 * out_.needs.temperature;
  }
  static double largest(const T* z, std::int64_t count) {
    return std::max(lowest_logit<C>, Loops::template largest<C>(z, count));
  }

 private:
  /// The largest of the first block is a good anchor for most rows. A row with an entry far above it is swept again
  /// about its own largest entries.
  template <bool Teacher, bool Moments>
  void sweep() {
    for (const std::int64_t count : {std::min(row_.columns, row_block), row_.columns}) {
      out_.sums = {};
      out_.sums.student.anchor = largest(row_.student, count);
      if constexpr (Teacher) out_.sums.teacher.anchor = largest(row_.teacher, count);
      const bool usable = out_.sums.student.anchor > least_anchor && out_.sums.teacher.anchor > least_anchor;
      if ((usable || count == row_.columns) && add_blocks<Teacher, Moments>(count < row_.columns)) break;
    }
  }

  /// Adds up all blocks about the anchors. False where `may_stop` and an entry lies more than 20 T above its anchor.
  template <bool Teacher, bool Moments>
  bool add_blocks(bool may_stop) {
    RowSums& sums = out_.sums;
    out_.maxima_s.clear(), out_.maxima_t.clear();
    out_.above_label = 0;
    for (std::int64_t first = 0; first < row_.columns; first += row_block) {
      const std::int64_t count = std::min(row_block, row_.columns - first);
      const T* s = row_.student + first;
      const T* t = Teacher ? row_.teacher + first : nullptr;
      const RowSums block = block_sums<Teacher, Moments>(sums, s, t, count, first);
      if (may_stop && (too_high(sums.student, s, count, block.student.sum) ||
                       (Teacher && too_high(sums.teacher, t, count, block.teacher.sum))))
        return false;
      add(sums.student, block.student);
      if constexpr (Teacher) add(sums.teacher, block.teacher);
      if (Moments && out_.needs.maxima) add_maxima(block, s, count, Teacher);
    }
    return true;
  }
  static void add(SideSums& total, const SideSums& part) {
    total.sum += part.sum, total.first += part.first, total.cross += part.cross;
  }
  void add_maxima(const RowSums& block, const T* s, std::int64_t count, bool teacher) {
    out_.maxima_s.push_back(static_cast<C>(block.student.largest));
    if (teacher) out_.maxima_t.push_back(static_cast<C>(block.teacher.largest));
    if (row_.task.labels == nullptr) return;
    const double label = static_cast<double>(row_.student[row_.label()]);
    if (block.student.largest > label)  // most blocks of a trained model hold none
      out_.above_label += Loops::template count_above<C>(s, count, static_cast<C>(label));
  }

  const TaskRow<T>& row_;
  RowSweep<C>& out_;
};

template <class C>
RowStatistics RowSweep<C>::statistics(std::int64_t columns) const {
  const double inverse = 1 / needs.temperature;
  const SideSums &s = sums.student, &t = sums.teacher;
  RowStatistics row;
  row.temperature = needs.temperature;
  row.columns = static_cast<double>(columns);
  const double log_s = std::log(s.sum);
  row.student_lse = s.anchor * inverse + log_s;
  if (needs.moments) row.student_entropy = log_s - s.first / s.sum * inverse;
  if (!needs.teacher) return row;
  const double log_t = std::log(t.sum);
  row.teacher_lse = t.anchor * inverse + log_t;
  if (!needs.moments) return row;
  row.teacher_entropy = log_t - t.first / t.sum * inverse;
  row.reverse_kl = s.cross / s.sum * inverse + (log_t - log_s);
  row.forward_kl = t.cross / t.sum * inverse + (log_s - log_t);
  return row;
}

template <class C>
RowConstants<C> RowSweep<C>::constants() const {
  RowConstants<C> c;
  c.student = side_constants(sums.student, static_cast<const C*>(kept_s));
  if (needs.teacher) {
    c.teacher = side_constants(sums.teacher, static_cast<const C*>(kept_t));
    c.log_sum_difference = static_cast<C>(std::log(sums.teacher.sum) - std::log(sums.student.sum));
  }
  c.inverse_temperature = static_cast<C>(1 / needs.temperature);
  c.log2_scale = static_cast<C>(1.4426950408889634 / needs.temperature);
  c.floor = static_cast<C>(lowest_log_prob * needs.temperature);
  return c;
}

template <class C>
template <class T>
Entry<double> RowSweep<C>::entry(const TaskRow<T>& row, std::int64_t i) const {
  Entry<double> e{{0, log_prob_of(row.student[i], sums.student, needs.temperature)}, 0, 0};
  e.p_s = std::exp(e.log_p_s);
  if (needs.teacher) {
    const double log_p_t = log_prob_of(row.teacher[i], sums.teacher, needs.temperature);
    e.p_t = std::exp(log_p_t);
    e.log_ratio = e.log_p_s - log_p_t;
  }
  return e;
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
