// SPDX-License-Identifier: Apache-2.0
// The row walker: statistics, value, gradient and metrics of one row after another, and the choice of the instruction
// set.
#ifndef KDLIB_BACKEND_CPU_ROWS_INL_HPP
#define KDLIB_BACKEND_CPU_ROWS_INL_HPP

#include <algorithm>
#include <cmath>
#include <cstring>
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

/// One thread's walk over rows. C is the type sums are formed in, T the storage, Loops the instruction set.
template <class Loops, class C, class T>
class RowWalker {
 public:
  explicit RowWalker(const RowTask<T>& task) : task_(task), n_(task.columns) {}

  template <class Loss>
  void walk(const Loss& loss, std::int64_t r, RowResult& result);

 private:
  /// Losses of one temperature. The gradient goes to out (nullptr: value only), plus `add` where given.
  template <class Loss, class O>
  void part(const Loss& loss, double term_weight, O* out, const C* add, RowResult& result);
  /// A sum whose temperatures differ: term after term, added up in C, rounded by the last.
  template <class Loss>
  void parts(const Loss& loss, double term_weight, int& left, RowResult& result);
  /// Losses on the teacher's top-k.
  template <class Loss, class O>
  void support_part(const Loss& loss, double term_weight, O* out, const C* add, RowResult& result);
  void support_sweep(double temperature);
  bool add_blocks_outside(bool may_stop, double& inside);
  const T* masked_block(std::int64_t first, std::int64_t count, std::size_t begin, std::size_t end);
  double masked_sum(std::int64_t first, std::int64_t count, std::size_t begin, std::size_t end);
  void sum_tail();
  void gather_support();
  template <class Loss, class O>
  double entries(const Loss& loss, const RowStatistics& row, RowConstants<C>& c, double subtract, O* out, const C* add);
  LabelPoint label_point(const RowStatistics& row) const;
  Entry<double> label_entry(const RowStatistics& row) const { return entry_of(task_.labels[r_], row.temperature); }
  Entry<double> entry_of(std::int64_t i, double temperature) const;
  double head_share(double head_mass, const RowConstants<C>& c) const;

  void statistics(double temperature, bool teacher, bool sums);
  template <bool Teacher, bool Sums>
  void sweep();
  void start_sweep(double student, double teacher);
  template <bool Teacher, bool Sums>
  bool add_blocks(bool may_stop);
  bool too_high(const SideSums& side, const T* z, std::int64_t count, double sum) const;
  template <bool Teacher, bool Sums>
  RowSums block_sums(const T* s, const T* t, std::int64_t count, std::int64_t first) const;
  RowStatistics row_statistics() const;
  RowConstants<C> constants() const;
  void metrics(RowMetrics& m);
  void js_metric(RowMetrics& m);
  TopFive top_five(const T* z, const std::vector<C>& maxima) const;

  const RowTask<T>& task_;
  std::int64_t n_;
  std::int64_t r_ = 0;
  double weight_ = 1;
  const T* student_ = nullptr;
  const T* teacher_ = nullptr;
  T* gradient_ = nullptr;
  double temperature_ = 0;  // of sums_; 0: none yet
  bool with_teacher_ = false, with_sums_ = false;
  bool open_ = false;  // total_ holds the sum of the row's earlier terms
  bool last_ = true;   // no later term reads this row
  RowSums sums_;
  std::vector<C> maxima_s_, maxima_t_;  // of each block, for the metrics
  Buffer<C, Cpu> keep_p_, keep_h_, total_;
  Buffer<C, Cpu> exponentials_s_, exponentials_t_;  // of the last sweep
  C* kept_s_ = nullptr;
  C* kept_t_ = nullptr;
  std::vector<std::pair<std::int32_t, double>> support_;  // id, log p_t; by id, each once
  std::vector<std::uint64_t> order_;                      // id and place in the targets, for sorting
  std::vector<double> support_log_t_, support_log_s_, support_p_s_, support_derivative_;
  std::vector<T> masked_;  // a block without its support
  SideSums tail_;          // the student's outside the support
  double log_tail_s_ = 0, above_label_ = 0;
};

/// NaN stays.
inline double at_least_lowest(double log_prob) { return log_prob < lowest_log_prob ? lowest_log_prob : log_prob; }

/// log p of the logit z about the row's anchor.
template <class T>
double log_prob_of(T z, const SideSums& side, double temperature) {
  return at_least_lowest((static_cast<double>(z) - side.anchor) / temperature) - std::log(side.sum);
}

template <class C>
C* at_least(Buffer<C, Cpu>& buffer, std::int64_t n) {
  if (buffer.count() < n) buffer = Buffer<C, Cpu>(n);
  return buffer.data();
}

template <class Loss>
double shared_temperature(const Loss& loss) {
  if constexpr (is_loss_sum<Loss>) {
    double first = 0;
    loss.for_each([&](double, const auto& l) {
      if (first == 0) first = shared_temperature(l);
    });
    return first;
  } else {
    return temperature_of(loss);
  }
}

template <class Loss>
int count_terms(const Loss& loss) {
  if constexpr (is_loss_sum<Loss>) {
    int count = 0;
    loss.for_each([&](double, const auto& l) { count += count_terms(l); });
    return count;
  } else {
    return 1;
  }
}

template <class Loops, class C, class T>
template <class Loss>
void RowWalker<Loops, C, T>::walk(const Loss& loss, std::int64_t r, RowResult& result) {
  r_ = r;
  weight_ = task_.weights == nullptr ? 1.0 : static_cast<double>(task_.weights[r]);
  student_ = task_.student + r * task_.student_stride;
  teacher_ = task_.teacher == nullptr ? nullptr : task_.teacher + r * task_.teacher_stride;
  gradient_ = task_.gradient == nullptr ? nullptr : task_.gradient + r * task_.gradient_stride;
  if (weight_ == 0) {
    if (gradient_ != nullptr) std::memset(static_cast<void*>(gradient_), 0, static_cast<std::size_t>(n_) * sizeof(T));
    return;
  }
  temperature_ = 0;
  if (task_.metrics) {
    statistics(1.0, teacher_ != nullptr, true);
    metrics(result.metrics);
    bool js = task_.jensen_shannon && teacher_ != nullptr;
    if constexpr (requires { loss.js_factor(); }) js = js && loss.js_factor() == 0;  // else part() has it
    if (js) js_metric(result.metrics);
  }
  constexpr bool apart = is_loss_sum<Loss> && (reads_support<Loss> || reads_head_share<Loss> ||
                                               walked_by_groups<Loss>);  // these terms have numbers of their own
  if constexpr (is_loss_sum<Loss>) {
    if (apart || !loss.has_temperature(shared_temperature(loss))) {
      int left = count_terms(loss);
      open_ = false;
      return parts(loss, 1.0, left, result);
    }
  }
  if constexpr (!apart) part(loss, 1.0, gradient_, static_cast<const C*>(nullptr), result);
}

template <class Loops, class C, class T>
template <class Loss>
void RowWalker<Loops, C, T>::parts(const Loss& loss, double term_weight, int& left, RowResult& result) {
  loss.for_each([&](double w, const auto& l) {
    if constexpr (is_loss_sum<std::decay_t<decltype(l)>>) {
      parts(l, term_weight * w, left, result);
    } else {
      const C* add = open_ ? total_.data() : nullptr;
      open_ = true;
      last_ = --left == 0;
      if (gradient_ == nullptr)
        part(l, term_weight * w, static_cast<C*>(nullptr), static_cast<const C*>(nullptr), result);
      else if (last_) part(l, term_weight * w, gradient_, add, result);
      else part(l, term_weight * w, at_least(total_, n_), add, result);
    }
  });
}

template <class Loops, class C, class T>
template <class Loss, class O>
void RowWalker<Loops, C, T>::part(const Loss& loss, double term_weight, O* out, const C* add, RowResult& result) {
  if constexpr (has_support_part<Loss>) return support_part(loss, term_weight, out, add, result);
  const double temperature = shared_temperature(loss);
  statistics(temperature, teacher_ != nullptr && needs_teacher(loss), needs_moments(loss));
  RowStatistics row = row_statistics();
  RowConstants<C> c = constants();
  if constexpr (reads_head_share<Loss>) row.head_share = head_share(loss.head_mass, c);
  c.scale = static_cast<C>(task_.scale * weight_ * term_weight * factor_of(loss) / temperature);
  double value = 0;
  Dual label;
  Entry<double> at_label{0, 0, 0, 0};
  std::int64_t y = 0;
  double add_at_label = 0;
  if constexpr (has_label_part<Loss>) {  // before the sweep that may overwrite the logits, and `add` where it is `out`
    y = task_.labels[r_];
    const LabelPoint point = label_point(row);
    label = loss.at_label(point);
    if constexpr (has_clamp<Loss>)
      if (task_.metrics && has_limits(loss))
        result.metrics.clamp_weight = 1,
        result.metrics.clamped += loss.clamped(point) && result.metrics.clamped == 0 ? 1 : 0;
    at_label = label_entry(row);
    if (add != nullptr) add_at_label = static_cast<double>(add[y]);
    value += label.value;
  }
  double subtract = label.derivative, h = 0;  // gradient scale * (h - p_s * subtract), and the derivative at the label
  if constexpr (has_normaliser_part<Loss>) {
    const Dual normaliser = loss.at_normaliser(row);
    value += normaliser.value;
    subtract -= normaliser.derivative;
  }
  if constexpr (has_entry<Loss>) {
    if constexpr (has_label_part<Loss>) h = loss.entry(row, at_label).derivative;
    value = within_bounds(loss, value + entries(loss, row, c, subtract, out, add));
    subtract = static_cast<double>(c.subtract);
  } else if (out != nullptr) {
    c.subtract = static_cast<C>(subtract);
    Loops::template probabilities<C>(c, student_, n_, out, add);
  }
  if constexpr (has_label_part<Loss>) {
    if (out != nullptr)
      out[y] = static_cast<O>(static_cast<C>(
          static_cast<double>(c.scale) * (h - at_label.p_s * subtract + label.derivative) + add_at_label));
  }
  if constexpr (requires { loss.js_factor(); })
    if (task_.metrics && loss.js_factor() != 0)
      result.metrics.js_weight = 1, result.metrics.js = std::max(0.0, value * loss.js_factor());
  result.value += term_weight * factor_of(loss) * value;
}

template <class Loops, class C, class T>
template <class Loss, class O>
double RowWalker<Loops, C, T>::entries(const Loss& loss, const RowStatistics& row, RowConstants<C>& c, double subtract,
                                       O* out, const C* add) {
  EntrySums sums;
  if (out == nullptr) {
    Loops::template entries<C, T, C, Sweep::value>(loss, row, c, student_, teacher_, n_, static_cast<C*>(nullptr),
                                                   static_cast<C*>(nullptr), static_cast<const C*>(nullptr), sums);
  } else if constexpr (has_derivative_sum<Loss>) {
    c.subtract = static_cast<C>(loss.derivative_sum(row) + subtract);
    Loops::template entries<C, T, O, Sweep::gradient>(loss, row, c, student_, teacher_, n_, out,
                                                      static_cast<C*>(nullptr), add, sums);
  } else {
    C* h = nullptr;
    if constexpr (std::is_same_v<O, C>) {
      if (add != out) h = out;  // f and h of an entry are written after its logits are read
    }
    if (h == nullptr) h = at_least(keep_h_, n_);
    C* p = nullptr;
    if constexpr (std::is_same_v<T, C>) {
      if (task_.teacher_is_scratch && last_ && teacher_ != gradient_) p = const_cast<C*>(teacher_);
    }
    if (p == nullptr) p = at_least(keep_p_, n_);
    Loops::template entries<C, T, C, Sweep::retain>(loss, row, c, student_, teacher_, n_, h, p,
                                                    static_cast<const C*>(nullptr), sums);
    c.subtract = static_cast<C>(sums.derivative + subtract);
    Loops::template finish<C, O>(c, h, p, n_, out, add);
  }
  return sums.value;
}

template <class Loops, class C, class T>
LabelPoint RowWalker<Loops, C, T>::label_point(const RowStatistics& row) const {
  const std::int64_t y = task_.labels[r_];
  LabelPoint point;
  point.log_prob = {log_prob_of(student_[y], sums_.student, row.temperature), 1};
  if (teacher_ != nullptr && with_teacher_)
    point.teacher_log_prob = log_prob_of(teacher_[y], sums_.teacher, row.temperature);
  else if (task_.teacher_label != nullptr)
    point.teacher_log_prob = at_least_lowest(static_cast<double>(task_.teacher_label[r_]));
  point.has_behaviour = task_.behaviour != nullptr;
  if (point.has_behaviour) point.behaviour_log_prob = static_cast<double>(task_.behaviour[r_]);
  if (with_teacher_ && with_sums_) point.reverse_kl = row.reverse_kl;
  return point;
}

template <class Loops, class C, class T>
Entry<double> RowWalker<Loops, C, T>::entry_of(std::int64_t i, double temperature) const {
  Entry<double> e{0, 0, log_prob_of(student_[i], sums_.student, temperature), 0};
  e.p_s = std::exp(e.log_p_s);
  if (teacher_ != nullptr && with_teacher_) {
    const double log_p_t = log_prob_of(teacher_[i], sums_.teacher, temperature);
    e.p_t = std::exp(log_p_t);
    e.log_ratio = e.log_p_s - log_p_t;
  }
  return e;
}

template <class Loops, class T, class Loss>
void walk_rows(const Loss& loss, const RowTask<T>& task, RowResult* results) {
  parallel_for(task.rows, 1, [&](std::int64_t begin, std::int64_t end) {
    RowWalker<Loops, accumulate_t<T>, T> walker(task);
    for (std::int64_t r = begin; r < end; ++r) {
      results[r] = {};
      walker.walk(loss, r, results[r]);
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

KDLIB_NAMESPACE_END

#include "kdlib/backend/cpu/rows_parts_inl.hpp"
#include "kdlib/backend/cpu/rows_sweep_inl.hpp"

#endif
