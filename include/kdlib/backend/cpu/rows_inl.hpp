// SPDX-License-Identifier: Apache-2.0
// Value, gradient and metrics of one row after another, and the choice of the instruction set.
#ifndef KDLIB_BACKEND_CPU_ROWS_INL_HPP
#define KDLIB_BACKEND_CPU_ROWS_INL_HPP

#include <algorithm>
#include <cmath>
#include <cstring>
#include <deque>
#include <utility>
#include <vector>

#include "kdlib/backend/cpu/rows.hpp"
#include "kdlib/backend/cpu/rows_types_inl.hpp"
#include "kdlib/backend/cpu/simd_inl.hpp"
#include "kdlib/core/parallel.hpp"
#include "kdlib/tensor/buffer.hpp"

#define KDLIB_ROWS_SPACE rows_portable
#define KDLIB_ROWS_PACK PortablePack
#define KDLIB_ROWS_TARGET
#include "kdlib/backend/cpu/rows_body_inl.hpp"
#undef KDLIB_ROWS_SPACE
#undef KDLIB_ROWS_PACK
#undef KDLIB_ROWS_TARGET
#if defined(__x86_64__)
#define KDLIB_ROWS_SPACE rows_avx2
#define KDLIB_ROWS_PACK Avx2Pack
#define KDLIB_ROWS_TARGET KDLIB_AVX2
#include "kdlib/backend/cpu/rows_body_inl.hpp"
#undef KDLIB_ROWS_SPACE
#undef KDLIB_ROWS_PACK
#undef KDLIB_ROWS_TARGET
#define KDLIB_ROWS_SPACE rows_avx512
#define KDLIB_ROWS_PACK Avx512Pack
#define KDLIB_ROWS_TARGET KDLIB_AVX512
#include "kdlib/backend/cpu/rows_body_inl.hpp"
#undef KDLIB_ROWS_SPACE
#undef KDLIB_ROWS_PACK
#undef KDLIB_ROWS_TARGET
#endif

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Where the gradient of a term goes: to `out` (nullptr: value only), plus `add` where that is given.
template <class C, class O>
struct TermOutput {
  O* out = nullptr;
  const C* add = nullptr;
  bool last = true;  // no later term reads the row
};

/// f(weight, loss) of each loss of a sum and its sums.
template <class Loss, class F>
void for_each_leaf(const Loss& loss, double weight, F&& f) {
  if constexpr (is_loss_sum<Loss>) loss.for_each([&](double w, const auto& l) { for_each_leaf(l, weight * w, f); });
  else f(weight, loss);
}

template <class Loss>
double first_temperature(const Loss& loss) {
  double first = 0;
  for_each_leaf(loss, 1.0, [&](double, const auto& l) { first = first == 0 ? temperature_of(l) : first; });
  return first;
}

/// One thread's rows. C is the type sums are formed in, T the storage, Loops the instruction set. The members are
/// memory that rows use one after the other: no call reads what an earlier one left there.
template <class Loops, class C, class T>
class RowWalker {
 public:
  template <class Loss>
  void walk(const Loss& loss, const TaskRow<T>& row, RowResult& result);

 private:
  using Sweeps = RowSweeps<Loops, C, T>;

  template <class Loss>
  void metrics(const Loss& loss, const TaskRow<T>& row, Sweeps& sweeps, RowMetrics& m) const;
  /// The terms of a sum one after the other, added up in C and rounded by the last.
  template <class Loss>
  void terms(const Loss& loss, const TaskRow<T>& row, Sweeps& sweeps, RowResult& result);
  /// A loss, or a sum whose terms share a temperature.
  template <class Loss, class O>
  void term(const Loss& loss, double weight, const TaskRow<T>& row, Sweeps& sweeps, const TermOutput<C, O>& output,
            RowResult& result);
  /// A loss on the teacher's top-k.
  template <class Loss, class O>
  void support_term(const Loss& loss, double weight, const TaskRow<T>& row, Sweeps& sweeps,
                    const TermOutput<C, O>& output, RowResult& result);
  /// The second sweep, and the third; returns the value and sets c.subtract to `subtract` + sum h.
  template <class Loss, class O>
  double entries(const Loss& loss, const RowStatistics& statistics, double subtract, const TaskRow<T>& row,
                 const TermOutput<C, O>& output, RowConstants<C>& c);

  std::deque<RowSweep<C>> sweeps_;
  Buffer<C, Cpu> keep_p_, keep_h_, total_;
  SupportRow support_;
  std::vector<std::uint64_t> order_;
  std::vector<T> masked_;
};

template <class Loops, class C, class T>
template <class Loss>
void RowWalker<Loops, C, T>::walk(const Loss& loss, const TaskRow<T>& row, RowResult& result) {
  if (row.weight == 0) {
    if (row.gradient != nullptr)
      std::memset(static_cast<void*>(row.gradient), 0, static_cast<std::size_t>(row.columns) * sizeof(T));
    return;
  }
  Sweeps sweeps(row, sweeps_);
  if (row.task.metrics) metrics(loss, row, sweeps, result.metrics);
  // Terms on a support or with a head have numbers of their own; others can share all exponentials of one temperature.
  constexpr bool apart = is_loss_sum<Loss> && (reads_support<Loss> || reads_head_share<Loss> || walked_by_groups<Loss>);
  if constexpr (is_loss_sum<Loss>) {
    if (apart || !loss.has_temperature(first_temperature(loss))) return terms(loss, row, sweeps, result);
  }
  if constexpr (!apart) term(loss, 1.0, row, sweeps, TermOutput<C, T>{row.gradient}, result);
}

template <class Loops, class C, class T>
template <class Loss>
void RowWalker<Loops, C, T>::metrics(const Loss& loss, const TaskRow<T>& row, Sweeps& sweeps, RowMetrics& m) const {
  const bool teacher = row.teacher != nullptr;
  const RowSweep<C>& sweep = sweeps.at({.temperature = 1, .teacher = teacher, .moments = true, .maxima = true});
  row_metrics<Loops>(row, sweep, m);
  bool js = row.task.jensen_shannon && teacher;
  if constexpr (requires { loss.js_factor(); }) js = js && loss.js_factor() == 0;  // else term() has it
  if (js) js_metric<Loops>(row, sweep, m);
}

template <class Loops, class C, class T>
template <class Loss>
void RowWalker<Loops, C, T>::terms(const Loss& loss, const TaskRow<T>& row, Sweeps& sweeps, RowResult& result) {
  int count = 0, index = 0;
  for_each_leaf(loss, 1.0, [&](double, const auto&) { ++count; });
  for_each_leaf(loss, 1.0, [&](double weight, const auto& l) {
    const C* add = index == 0 || row.gradient == nullptr ? nullptr : total_.data();
    const bool last = ++index == count;
    if (last) return term(l, weight, row, sweeps, TermOutput<C, T>{row.gradient, add}, result);
    C* out = row.gradient == nullptr ? nullptr : at_least(total_, row.columns);
    term(l, weight, row, sweeps, TermOutput<C, C>{out, add, false}, result);
  });
}

template <class T>
LabelPoint label_point(const TaskRow<T>& row, const SideSums& student, const SideSums* teacher,
                       const RowStatistics& statistics) {
  const RowTask<T>& task = row.task;
  LabelPoint point;
  point.log_prob = {log_prob_of(row.student[row.label()], student, statistics.temperature), 1};
  if (teacher != nullptr)
    point.teacher_log_prob = log_prob_of(row.teacher[row.label()], *teacher, statistics.temperature);
  else if (task.teacher_label != nullptr)
    point.teacher_log_prob = at_least_lowest(static_cast<double>(task.teacher_label[row.index]));
  point.has_behaviour = task.behaviour != nullptr;
  if (point.has_behaviour) point.behaviour_log_prob = static_cast<double>(task.behaviour[row.index]);
  point.reverse_kl = statistics.reverse_kl;
  return point;
}

/// A term's label: value and derivative of its label part, and the label's entry in double.
struct LabelTerm {
  Dual part;
  Entry<double> entry{};
  double add = 0;  // the gradient of earlier terms there
};

/// Read before the sweep that may overwrite the logits, and `add` where it is the same memory as the gradient.
template <class Loss, class C, class T>
LabelTerm label_term(const Loss& loss, const TaskRow<T>& row, const RowSweep<C>& sweep, const RowStatistics& statistics,
                     const C* add, RowMetrics& m) {
  const SideSums* teacher = sweep.needs.teacher ? &sweep.sums.teacher : nullptr;
  const LabelPoint point = label_point(row, sweep.sums.student, teacher, statistics);
  if constexpr (has_clamp<Loss>)
    if (row.task.metrics && has_limits(loss)) m.clamp_weight = 1, m.clamped = loss.clamped(point) ? 1 : m.clamped;
  return {loss.at_label(point), sweep.entry(row, row.label()),
          add == nullptr ? 0.0 : static_cast<double>(add[row.label()])};
}

template <class Loops, class C, class T>
template <class Loss, class O>
void RowWalker<Loops, C, T>::term(const Loss& loss, double weight, const TaskRow<T>& row, Sweeps& sweeps,
                                  const TermOutput<C, O>& output, RowResult& result) {
  if constexpr (has_support_part<Loss>) return support_term(loss, weight, row, sweeps, output, result);
  const double temperature = first_temperature(loss);
  const bool teacher = row.teacher != nullptr && needs_teacher(loss);
  const RowSweep<C>& sweep =
      sweeps.at({.temperature = temperature, .teacher = teacher, .moments = needs_moments(loss)});
  RowStatistics statistics = sweep.statistics(row.columns);
  if constexpr (reads_head_share<Loss>) statistics.head_share = head_share<Loops>(loss.head_mass, row, sweep);
  LabelTerm label;
  if constexpr (has_label_part<Loss>) label = label_term(loss, row, sweep, statistics, output.add, result.metrics);
  double value = label.part.value, subtract = label.part.derivative;  // the gradient is scale * (h - p_s * subtract)
  if constexpr (has_normaliser_part<Loss>) {
    const Dual normaliser = loss.at_normaliser(statistics);
    value += normaliser.value, subtract -= normaliser.derivative;
  }
  RowConstants<C> c = sweep.constants();
  c.scale = static_cast<C>(row.task.scale * row.weight * weight * factor_of(loss) / temperature);
  c.subtract = static_cast<C>(subtract);
  double h = 0;  // the derivative at the label
  if constexpr (has_entry<Loss>) {
    if constexpr (has_label_part<Loss>) h = loss.entry(statistics, as_entry_of<Loss>(label.entry)).derivative;
    value = within_bounds(loss, value + entries(loss, statistics, subtract, row, output, c));
    subtract = static_cast<double>(c.subtract);
  } else if (output.out != nullptr) {
    Loops::template probabilities<C>(c, row.student, row.columns, output.out, output.add);
  }
  if constexpr (has_label_part<Loss>) {
    if (output.out != nullptr)
      output.out[row.label()] = static_cast<O>(static_cast<C>(
          static_cast<double>(c.scale) * (h - label.entry.p_s * subtract + label.part.derivative) + label.add));
  }
  if constexpr (requires { loss.js_factor(); })
    if (row.task.metrics && loss.js_factor() != 0)
      result.metrics.js_weight = 1, result.metrics.js = value * loss.js_factor();
  result.value += weight * factor_of(loss) * value;
}

template <class Loops, class C, class T>
template <class Loss, class O>
double RowWalker<Loops, C, T>::entries(const Loss& loss, const RowStatistics& statistics, double subtract,
                                       const TaskRow<T>& row, const TermOutput<C, O>& output, RowConstants<C>& c) {
  EntrySums sums;
  constexpr C* none = nullptr;
  constexpr const C* nothing = nullptr;
  const std::int64_t n = row.columns;
  if (output.out == nullptr) {
    Loops::template entries<C, T, C, Sweep::value>(loss, statistics, c, row.student, row.teacher, n, none, none,
                                                   nothing, sums);
  } else if constexpr (has_derivative_sum<Loss>) {
    c.subtract = static_cast<C>(loss.derivative_sum(statistics) + subtract);
    Loops::template entries<C, T, O, Sweep::gradient>(loss, statistics, c, row.student, row.teacher, n, output.out,
                                                      none, output.add, sums);
  } else {
    C* h = nullptr;
    if constexpr (std::is_same_v<O, C>) {
      if (output.add != output.out) h = output.out;  // f and h of an entry are written after its logits are read
    }
    if (h == nullptr) h = at_least(keep_h_, n);
    C* p = nullptr;
    if constexpr (std::is_same_v<T, C>) {
      if (row.task.teacher_is_scratch && output.last && row.teacher != row.gradient) p = const_cast<C*>(row.teacher);
    }
    if (p == nullptr) p = at_least(keep_p_, n);
    Loops::template entries<C, T, C, Sweep::retain>(loss, statistics, c, row.student, row.teacher, n, h, p, nothing,
                                                    sums);
    c.subtract = static_cast<C>(sums.derivative + subtract);
    Loops::template finish<C, O>(c, h, p, n, output.out, output.add);
  }
  return sums.value;
}

template <class Loops, class T, class Loss>
void walk_rows(const Loss& loss, const RowTask<T>& task, RowResult* results) {
  parallel_for(task.rows, 1, [&](std::int64_t begin, std::int64_t end) {
    RowWalker<Loops, accumulate_t<T>, T> walker;
    for (std::int64_t r = begin; r < end; ++r) {
      results[r] = {};
      walker.walk(loss, TaskRow<T>(task, r), results[r]);
    }
  });
}

}  // namespace detail

template <class T>
requires(std::is_same_v<T, float> || std::is_same_v<T, double> || std::is_same_v<T, bf16>) template <class Loss>
void RowKernels<Cpu, T>::run(const Loss& loss, const RowTask<T>& task, RowResult* results) {
#if defined(__x86_64__)
  if constexpr (!std::is_same_v<T, double>) {
    if (cpu_level() == CpuLevel::avx512) return detail::walk_rows<detail::rows_avx512::Loops>(loss, task, results);
    if (cpu_level() == CpuLevel::avx2) return detail::walk_rows<detail::rows_avx2::Loops>(loss, task, results);
  }
#endif
  detail::walk_rows<detail::rows_portable::Loops>(loss, task, results);
}

template <class T>
requires(std::is_same_v<T, float> || std::is_same_v<T, double> ||
         std::is_same_v<T, bf16>) void RowKernels<Cpu, T>::modify_logits(const T* bias, T scale, float softcap,
                                                                         std::int64_t rows, std::int64_t columns,
                                                                         T* z) {
  using C = accumulate_t<T>;
  if (bias == nullptr && !(softcap > 0)) return;
  const C cap = static_cast<C>(softcap), factor = static_cast<C>(scale);
  if constexpr (!std::is_same_v<T, bf16>)
    if (bias == nullptr)
      return parallel_for(rows, 1, [&](std::int64_t begin, std::int64_t end) {
        KDLIB_VECTOR_CALL(softcap, z + begin * columns, (end - begin) * columns, 1 / cap, cap, z + begin * columns);
      });
  parallel_for(rows, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t r = begin; r < end; ++r)
      for (std::int64_t i = 0; i < columns; ++i) {
        C x = static_cast<C>(z[r * columns + i]);
        if (bias != nullptr) x += factor * static_cast<C>(bias[i]);
        if (cap > 0) x = cap * std::tanh(x / cap);
        z[r * columns + i] = static_cast<T>(x);
      }
  });
}

template <class T>
requires(std::is_same_v<T, float> || std::is_same_v<T, double> ||
         std::is_same_v<T, bf16>) void RowKernels<Cpu, T>::softcap_backward(float softcap, std::int64_t rows,
                                                                            std::int64_t columns, const T* z,
                                                                            T* gradient) {
  using C = accumulate_t<T>;
  const C inverse = 1 / static_cast<C>(softcap);
  parallel_for(rows, 1, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin * columns; i < end * columns; ++i) {
      const C y = static_cast<C>(z[i]) * inverse;
      gradient[i] = static_cast<T>(static_cast<C>(gradient[i]) * (1 - y * y));
    }
  });
}

KDLIB_NAMESPACE_END

#include "kdlib/backend/cpu/rows_metrics_inl.hpp"
#include "kdlib/backend/cpu/rows_statistics_inl.hpp"
#include "kdlib/backend/cpu/rows_support_inl.hpp"

#endif
