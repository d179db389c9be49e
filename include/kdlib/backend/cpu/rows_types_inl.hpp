// SPDX-License-Identifier: Apache-2.0
// What the row loops of every instruction set hand to the row walker.
#ifndef KDLIB_BACKEND_CPU_ROWS_TYPES_INL_HPP
#define KDLIB_BACKEND_CPU_ROWS_TYPES_INL_HPP

#include <cmath>
#include <cstdint>
#include <deque>
#include <limits>
#include <utility>
#include <vector>

#include "kdlib/loss/concepts.hpp"
#include "kdlib/loss/terms.hpp"
#include "kdlib/tensor/buffer.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

constexpr std::int64_t row_block = 1024;  // entries: 4 KB of each stream, both in the first cache

/// Sums over one model's logits z at x = z - anchor: sum of e^(x/T), of e x, and of e (x - y) with the other model's y.
/// A row has one anchor a model. No sum is ever rewritten for another anchor, because an entry that was cut at the
/// floor would move with it.
struct SideSums {
  double anchor = 0, sum = 0, first = 0, cross = 0;
  double largest = 0;  // of a block, where asked for
};
struct RowSums {
  SideSums student, teacher;
};

template <class C>
constexpr double lowest_logit = static_cast<double>(std::numeric_limits<C>::lowest());
constexpr double least_anchor = -1e30;    // of a part of a row: x = z - anchor of other entries is finite in float
constexpr double lowest_log_prob = -1e6;  // what a logit of -infinity counts as, about its row's anchor

/// NaN stays.
inline double at_least_lowest(double log_prob) { return log_prob < lowest_log_prob ? lowest_log_prob : log_prob; }

/// log p of the logit z about the row's anchor.
template <class T>
double log_prob_of(T z, const SideSums& side, double temperature) {
  return at_least_lowest((static_cast<double>(z) - side.anchor) / temperature) - std::log(side.sum);
}

/// A buffer of at least n numbers, whatever they are.
template <class C>
C* at_least(Buffer<C, Cpu>& buffer, std::int64_t n) {
  if (buffer.count() < n) buffer = Buffer<C, Cpu>(n);
  return buffer.data();
}

/// One row of a task.
template <class T>
struct TaskRow {
  const RowTask<T>& task;
  std::int64_t index, columns;
  double weight;
  const T* student;
  const T* teacher;  // nullptr: no teacher's logits
  T* gradient;       // nullptr: value only

  TaskRow(const RowTask<T>& of, std::int64_t r)
      : task(of),
        index(r),
        columns(of.columns),
        weight(of.weights == nullptr ? 1.0 : static_cast<double>(of.weights[r])),
        student(of.student + r * of.student_stride),
        teacher(of.teacher == nullptr ? nullptr : of.teacher + r * of.teacher_stride),
        gradient(of.gradient == nullptr ? nullptr : of.gradient + r * of.gradient_stride) {}
  std::int64_t label() const { return task.labels[index]; }
};

/// Whether the second sweep takes the exponentials of the first from memory. It pays where logits are stored in 16
/// bits; with float logits the sweeps wait for memory already (docs/performance.md).
template <class C, class T>
constexpr bool keeps_exponentials = sizeof(T) < sizeof(C);

template <class Loops, class C, class T>
class FirstSweep;

/// One side's numbers for the second sweep: p = 2^(x k - fraction + offset), or, kept, e^(x / T) * near_one * power.
template <class C>
struct SideConstants {
  C anchor = 0, log_sum = 0, fraction = 0, offset = 0;
  const C* exponentials = nullptr;
  C near_one = 1, power = 1;  // 1 / sum as a number in [1/2, 1) and a power of two
};
template <class C>
struct RowConstants {
  SideConstants<C> student, teacher;
  C log2_scale = 0;           // log2(e) / T
  C inverse_temperature = 0;  // 1 / T
  C log_sum_difference = 0;   // log sum of the teacher - of the student, about their anchors
  C floor = 0;                // x is not followed below it: -1e6 T
  C scale = 0, subtract = 0;  // gradient = scale * (h - p_s * subtract)
};

/// Constants of p = e^((z - anchor) / T) / sum.
template <class C>
SideConstants<C> side_constants(const SideSums& sums, const C* exponentials) {
  const double l = std::log2(sums.sum), whole = std::floor(l);
  SideConstants<C> side{static_cast<C>(sums.anchor), static_cast<C>(std::log(sums.sum)), static_cast<C>(l - whole),
                        static_cast<C>(-whole), exponentials};
  int exponent = 0;
  side.near_one = static_cast<C>(std::frexp(1 / sums.sum, &exponent));
  side.power = static_cast<C>(std::ldexp(1.0, exponent));
  return side;
}

/// What a first sweep is asked for.
struct SweepNeeds {
  double temperature = 1;
  bool teacher = false;  // the teacher's sums too
  bool moments = false;  // SideSums::first and cross
  bool maxima = false;   // the largest entry of each block, and the entries above the label's; with moments only

  bool covers(const SweepNeeds& o) const {
    return temperature == o.temperature && (teacher || !o.teacher) && (moments || !o.moments) && (maxima || !o.maxima);
  }
};

/// What one first sweep of a row found. Its memory is used again by later rows.
template <class C>
struct RowSweep {
  SweepNeeds needs;
  bool of_whole_row = true;  // false: the kept exponentials lack entries, so that no other term can use them
  RowSums sums;
  std::vector<C> maxima_s, maxima_t;  // of each block
  double above_label = 0;             // entries above the label's logit
  C* kept_s = nullptr;                // exponentials of the row, where keeps_exponentials
  C* kept_t = nullptr;
  Buffer<C, Cpu> memory_s, memory_t;

  RowStatistics statistics(std::int64_t columns) const;
  RowConstants<C> constants() const;
  /// Entry i of the row in double.
  template <class T>
  Entry<double> entry(const TaskRow<T>& row, std::int64_t i) const;
};

/// The first sweeps of one row: each is made once and serves all terms whose needs it covers. `memory` outlives the
/// row.
template <class Loops, class C, class T>
class RowSweeps {
 public:
  RowSweeps(const TaskRow<T>& row, std::deque<RowSweep<C>>& memory) : row_(row), memory_(memory) {}

  const RowSweep<C>& at(const SweepNeeds& needs) {
    for (std::size_t k = 0; k < used_; ++k)
      if (memory_[k].of_whole_row && memory_[k].needs.covers(needs)) return memory_[k];
    RowSweep<C>& sweep = next();
    FirstSweep<Loops, C, T>(row_, needs, sweep).run();
    return sweep;
  }
  /// A sweep that the caller fills itself. Other terms find it only where no exponentials are kept.
  RowSweep<C>& apart() {
    RowSweep<C>& sweep = next();
    sweep.of_whole_row = !keeps_exponentials<C, T>;
    return sweep;
  }

 private:
  RowSweep<C>& next() {
    if (used_ == memory_.size()) memory_.emplace_back();
    memory_[used_].of_whole_row = true;
    return memory_[used_++];
  }

  const TaskRow<T>& row_;
  std::deque<RowSweep<C>>& memory_;
  std::size_t used_ = 0;
};

/// The teacher's top-k of a row, each id once, in the order of the ids.
struct SupportRow {
  std::vector<std::int32_t> ids;
  std::vector<double> log_t;
  std::vector<double> log_s, derivative;
  SideSums outside;        // the student's sums outside the support, about an anchor of their own
  double log_outside = 0;  // log of the student's mass there; -infinity: nothing is outside
};

struct EntrySums {
  double value = 0, derivative = 0;
};

enum class Sweep { value, gradient, retain };

/// The five largest of a row, largest first, lower ids first among equals.
struct TopFive {
  double value[5] = {};
  std::int64_t id[5] = {-1, -1, -1, -1, -1};
  int count = 0;

  void insert(double x, std::int64_t i) {  // ids come in increasing order
    int at = count < 5 ? count++ : 5;
    if (at == 5) {
      if (!(x > value[4])) return;
      at = 4;
    }
    for (; at > 0 && x > value[at - 1]; --at) value[at] = value[at - 1], id[at] = id[at - 1];
    value[at] = x, id[at] = i;
  }
  bool holds(std::int64_t i) const {
    for (int j = 0; j < count; ++j)
      if (id[j] == i) return true;
    return false;
  }
};

/// Every entry that a sweep finds, for the head of the teacher's distribution.
struct FoundEntries {
  std::vector<std::pair<double, std::int64_t>> found;  // logit, id

  void insert(double x, std::int64_t i) { found.emplace_back(x, i); }
};

/// Sums |p_s - p_t|.
struct GapEntry {
  static constexpr bool reads_teacher = true;
  template <class P>
  KDLIB_INLINE EntryLoss<P> entry(const RowStatistics&, const Entry<P>& x) const {
    return {abs(x.p_s - x.p_t), P(0)};
  }
};

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
