// SPDX-License-Identifier: Apache-2.0
// What the row loops of every instruction set hand to the row walker.
#ifndef KDLIB_BACKEND_CPU_ROWS_TYPES_INL_HPP
#define KDLIB_BACKEND_CPU_ROWS_TYPES_INL_HPP

#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

#include "kdlib/loss/concepts.hpp"

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

/// Whether the second sweep takes the exponentials of the first from memory. It pays where logits are stored in 16
/// bits; with float logits the sweeps wait for memory already (docs/performance.md).
template <class C, class T>
constexpr bool keeps_exponentials = sizeof(T) < sizeof(C);

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
