// SPDX-License-Identifier: Apache-2.0
// What a row gives beside its loss: metrics, and the share of the teacher's head for AdaptiveKl.
#ifndef KDLIB_BACKEND_CPU_ROWS_METRICS_INL_HPP
#define KDLIB_BACKEND_CPU_ROWS_METRICS_INL_HPP

#include "kdlib/backend/cpu/rows_inl.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// `maxima`: the largest entry of each block.
template <class Loops, class C, class T>
TopFive top_five(const T* z, std::int64_t columns, const std::vector<C>& maxima) {
  // The fifth largest of the block maxima is a lower bound of the fifth largest entry: only blocks that reach it are
  // looked at.
  C bound = -std::numeric_limits<C>::infinity();
  if (maxima.size() >= 5) {
    C five[5];
    std::partial_sort_copy(maxima.begin(), maxima.end(), five, five + 5, [](C a, C b) { return a > b; });
    bound = five[4];
  }
  TopFive top;
  for (std::size_t b = 0; b < maxima.size(); ++b) {
    if (!(maxima[b] >= bound)) continue;
    const std::int64_t first = static_cast<std::int64_t>(b) * row_block;
    Loops::template collect<C>(z + first, std::min(row_block, columns - first), first, bound, top);
  }
  return top;
}

/// From a sweep at temperature 1 with moments and maxima, and the teacher where there is one.
template <class Loops, class C, class T>
void row_metrics(const TaskRow<T>& row, const RowSweep<C>& sweep, RowMetrics& m) {
  const RowStatistics statistics = sweep.statistics(row.columns);
  const auto not_negative = [](double x) { return x < 0 ? 0.0 : x; };
  const TopFive s = top_five<Loops>(row.student, row.columns, sweep.maxima_s);
  m.weight = 1;
  m.student_entropy = not_negative(statistics.student_entropy);
  if (row.teacher != nullptr) {
    const TopFive t = top_five<Loops>(row.teacher, row.columns, sweep.maxima_t);
    m.teacher_weight = 1;
    m.teacher_entropy = not_negative(statistics.teacher_entropy);
    m.forward_kl = not_negative(statistics.forward_kl);
    m.reverse_kl = not_negative(statistics.reverse_kl);
    m.top1_agreement = s.id[0] == t.id[0] ? 1 : 0;
    int common = 0;
    for (int i = 0; i < t.count; ++i) common += s.holds(t.id[i]) ? 1 : 0;
    m.top5_overlap = t.count > 0 ? static_cast<double>(common) / t.count : 0;
    m.top5_contains = s.holds(t.id[0]) ? 1 : 0;
  }
  if (row.task.labels != nullptr) {
    m.label_weight = 1;
    m.label_log_prob = log_prob_of(row.student[row.label()], sweep.sums.student, 1.0);
    m.label_top1 = s.id[0] == row.label() ? 1 : 0;
    m.label_rank = std::isnan(m.label_log_prob) ? m.label_log_prob : 1 + sweep.above_label;
  }
}

/// The sum of a term's values over the vocabulary.
template <class Loops, class C, class T, class Term>
double term_sum(const Term& term, const TaskRow<T>& row, const RowSweep<C>& sweep) {
  EntrySums sums;
  Loops::template entries<C, T, C, Sweep::value>(term, RowStatistics{}, sweep.constants(), row.student, row.teacher,
                                                 row.columns, static_cast<C*>(nullptr), static_cast<C*>(nullptr),
                                                 static_cast<const C*>(nullptr), sums);
  return sums.value;
}

template <class Loops, class C, class T>
void js_metric(const TaskRow<T>& row, const RowSweep<C>& sweep, RowMetrics& m) {
  m.js_weight = 1;
  m.js = within_bounds(JsEntry{}, term_sum<Loops>(JsEntry{}, row, sweep));
}

/// The share of the head in sum |p_s - p_t|. Entries below (1 - head_mass) / V weigh less than 1 - head_mass together,
/// so none of them is in the head.
template <class Loops, class C, class T>
double head_share(double head_mass, const TaskRow<T>& row, const RowSweep<C>& sweep) {
  const double whole = term_sum<Loops>(GapEntry{}, row, sweep);
  if (std::isnan(whole)) return whole;
  const SideSums& teacher = sweep.sums.teacher;
  const double smallest = std::log((1 - head_mass) / static_cast<double>(row.columns)) + std::log(teacher.sum);
  const double bound = teacher.anchor + sweep.needs.temperature * (smallest - 1e-3);  // a little lower: rounded to C
  FoundEntries candidates;
  Loops::template collect<C>(row.teacher, row.columns, 0, static_cast<C>(bound), candidates);
  auto& head = candidates.found;
  std::sort(head.begin(), head.end(),
            [](const auto& a, const auto& b) { return a.first != b.first ? a.first > b.first : a.second < b.second; });
  double mass = 0, gap = 0;
  for (const auto& candidate : head) {
    if (mass >= head_mass) break;
    const Entry<double> e = sweep.entry(row, candidate.second);
    mass += e.p_t, gap += std::abs(e.p_s - e.p_t);
  }
  return whole > 0 ? std::min(1.0, gap / whole) : 0.5;
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
