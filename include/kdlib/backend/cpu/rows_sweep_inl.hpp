// SPDX-License-Identifier: Apache-2.0
// The row walker's first sweep: anchors, sums of exponentials and moments, and what the second sweep needs of them.
#ifndef KDLIB_BACKEND_CPU_ROWS_SWEEP_INL_HPP
#define KDLIB_BACKEND_CPU_ROWS_SWEEP_INL_HPP

#include "kdlib/backend/cpu/rows_inl.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

template <class Loops, class C, class T>
void RowWalker<Loops, C, T>::statistics(double temperature, bool teacher, bool sums) {
  if (temperature_ == temperature && (with_teacher_ || !teacher) && (with_sums_ || !sums)) return;
  temperature_ = temperature;
  with_teacher_ = teacher;
  with_sums_ = sums;
  if (teacher && sums) sweep<true, true>();
  else if (teacher) sweep<true, false>();
  else if (sums) sweep<false, true>();
  else sweep<false, false>();
}

/// The largest of the first block is a good anchor for most rows. A row with an entry far above it is swept again about
/// its own largest entries.
template <class Loops, class C, class T>
template <bool Teacher, bool Sums>
void RowWalker<Loops, C, T>::sweep() {
  const auto largest = [&](const T* z, std::int64_t count) {
    return std::max(lowest_logit<C>, Loops::template largest<C>(z, count));
  };
  for (const std::int64_t count : {std::min(n_, row_block), n_}) {
    start_sweep(largest(student_, count), Teacher ? largest(teacher_, count) : 0);
    const bool usable = sums_.student.anchor > least_anchor && sums_.teacher.anchor > least_anchor;
    if ((usable || count == n_) && add_blocks<Teacher, Sums>(count < n_)) break;
  }
}

/// Adds up all blocks about the anchors. False where `may_stop` and an entry lies more than 20 T above its anchor.
template <class Loops, class C, class T>
template <bool Teacher, bool Sums>
bool RowWalker<Loops, C, T>::add_blocks(bool may_stop) {
  const bool keep_maxima = Sums && task_.metrics && temperature_ == 1;
  if (keep_maxima) maxima_s_.clear(), maxima_t_.clear();
  const bool rank = keep_maxima && task_.labels != nullptr;
  const double label_logit = rank ? static_cast<double>(student_[task_.labels[r_]]) : 0;
  above_label_ = 0;
  for (std::int64_t first = 0; first < n_; first += row_block) {
    const std::int64_t count = std::min(row_block, n_ - first);
    const RowSums block =
        block_sums<Teacher, Sums>(student_ + first, Teacher ? teacher_ + first : nullptr, count, first);
    if (may_stop && (too_high(sums_.student, student_ + first, count, block.student.sum) ||
                     (Teacher && too_high(sums_.teacher, teacher_ + first, count, block.teacher.sum))))
      return false;
    const auto add = [](SideSums& total, const SideSums& part) {
      total.sum += part.sum, total.first += part.first, total.cross += part.cross;
    };
    add(sums_.student, block.student);
    if constexpr (Teacher) add(sums_.teacher, block.teacher);
    if (keep_maxima) {
      maxima_s_.push_back(static_cast<C>(block.student.largest));
      if constexpr (Teacher) maxima_t_.push_back(static_cast<C>(block.teacher.largest));
      if (rank && block.student.largest > label_logit)  // most blocks of a trained model hold none
        above_label_ += Loops::template count_above<C>(student_ + first, count, static_cast<C>(label_logit));
    }
  }
  return true;
}

/// Whether a block whose exponentials add up to `sum` holds an entry more than 20 T above the anchor. Below e^13 none
/// can be there, so the block's largest entry is looked for only beyond that.
template <class Loops, class C, class T>
bool RowWalker<Loops, C, T>::too_high(const SideSums& side, const T* z, std::int64_t count, double sum) const {
  return sum > 4e5 && Loops::template largest<C>(z, count) - side.anchor > 20 * temperature_;
}

/// Sets the anchors and makes room for a row's exponentials.
template <class Loops, class C, class T>
void RowWalker<Loops, C, T>::start_sweep(double student, double teacher) {
  sums_ = {};
  sums_.student.anchor = student;
  sums_.teacher.anchor = teacher;
  if constexpr (keeps_exponentials<C, T>) {
    kept_s_ = at_least(exponentials_s_, n_);
    if (with_teacher_) kept_t_ = at_least(exponentials_t_, n_);
  }
}

/// The sums of the block that begins at entry `first`, about the row's anchors.
template <class Loops, class C, class T>
template <bool Teacher, bool Sums>
RowSums RowWalker<Loops, C, T>::block_sums(const T* s, const T* t, std::int64_t count, std::int64_t first) const {
  RowSums block;
  Loops::template block_statistics<C, T, Teacher, Sums>(
      s, t, count, sums_, static_cast<C>(1.4426950408889634 / temperature_),
      static_cast<C>(lowest_log_prob * temperature_), kept_s_ == nullptr ? nullptr : kept_s_ + first,
      kept_t_ == nullptr ? nullptr : kept_t_ + first, block);
  return block;
}

template <class Loops, class C, class T>
RowStatistics RowWalker<Loops, C, T>::row_statistics() const {
  const double inverse = 1 / temperature_;
  const SideSums &s = sums_.student, &t = sums_.teacher;
  RowStatistics row;
  row.temperature = temperature_;
  row.columns = static_cast<double>(n_);
  const double log_s = std::log(s.sum);
  row.student_lse = s.anchor * inverse + log_s;
  if (with_sums_) row.student_entropy = log_s - s.first / s.sum * inverse;
  if (!with_teacher_) return row;
  const double log_t = std::log(t.sum);
  row.teacher_lse = t.anchor * inverse + log_t;
  if (!with_sums_) return row;
  row.teacher_entropy = log_t - t.first / t.sum * inverse;
  row.reverse_kl = s.cross / s.sum * inverse + (log_t - log_s);
  row.forward_kl = t.cross / t.sum * inverse + (log_s - log_t);
  return row;
}

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

template <class Loops, class C, class T>
RowConstants<C> RowWalker<Loops, C, T>::constants() const {
  RowConstants<C> c;
  c.student = side_constants(sums_.student, kept_s_);
  if (with_teacher_) {
    c.teacher = side_constants(sums_.teacher, kept_t_);
    c.log_sum_difference = static_cast<C>(std::log(sums_.teacher.sum) - std::log(sums_.student.sum));
  }
  c.inverse_temperature = static_cast<C>(1 / temperature_);
  c.log2_scale = static_cast<C>(1.4426950408889634 / temperature_);
  c.floor = static_cast<C>(lowest_log_prob * temperature_);
  return c;
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
