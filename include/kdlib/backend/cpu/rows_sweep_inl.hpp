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

template <class Loops, class C, class T>
template <bool Teacher, bool Sums>
void RowWalker<Loops, C, T>::sweep() {
  constexpr double lowest = static_cast<double>(std::numeric_limits<C>::lowest());
  const double inverse = 1 / temperature_;
  const bool keep_maxima = Sums && task_.metrics && temperature_ == 1;
  start_sweep(std::max(lowest, Loops::template largest<C>(student_, std::min(n_, row_block))),
              Teacher ? std::max(lowest, Loops::template largest<C>(teacher_, std::min(n_, row_block))) : 0);
  if (keep_maxima) maxima_s_.clear(), maxima_t_.clear();
  const bool rank = keep_maxima && task_.labels != nullptr;
  const double label_logit = rank ? static_cast<double>(student_[task_.labels[r_]]) : 0;
  above_label_ = 0;
  for (std::int64_t first = 0; first < n_; first += row_block) {
    const std::int64_t count = std::min(row_block, n_ - first);
    const RowSums block =
        sum_block<Teacher, Sums>(student_ + first, Teacher ? teacher_ + first : nullptr, count, first);
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
  end_sweep(inverse);
}

/// Sets the anchors and makes room for a row's exponentials.
template <class Loops, class C, class T>
void RowWalker<Loops, C, T>::start_sweep(double student, double teacher) {
  sums_ = {};
  sums_.student.anchor = student;
  sums_.teacher.anchor = teacher;
  if constexpr (keeps_exponentials<C, T>) {
    anchor_s_.clear(), anchor_t_.clear();
    kept_s_ = at_least(exponentials_s_, n_);
    if (with_teacher_) kept_t_ = at_least(exponentials_t_, n_);
  }
}

/// A block's sums about the row's anchors as they are.
template <class Loops, class C, class T>
template <bool Teacher, bool Sums>
RowSums RowWalker<Loops, C, T>::block_sums(const T* s, const T* t, std::int64_t count, C* keep_s, C* keep_t) const {
  RowSums block;
  Loops::template block_statistics<C, T, Teacher, Sums>(s, t, count, sums_,
                                                        static_cast<C>(1.4426950408889634 / temperature_),
                                                        static_cast<C>(-1e6 * temperature_), keep_s, keep_t, block);
  return block;
}

/// A block's sums about the row's anchors. A block that rises far above an anchor moves it and is summed again; one
/// whose exponentials add up to less than e^13 holds no such entry, so its largest is looked for only beyond that.
template <class Loops, class C, class T>
template <bool Teacher, bool Sums>
RowSums RowWalker<Loops, C, T>::sum_block(const T* s, const T* t, std::int64_t count, std::int64_t first) {
  const double inverse = 1 / temperature_;
  RowSums block;
  const auto moved = [&](SideSums& side, SideSums& other, const T* z, double sum) {
    if (!(sum > 4e5)) return false;
    const double top = Loops::template largest<C>(z, count);
    if (!((top - side.anchor) * inverse > 20)) return false;
    move_anchor(side, other, top, inverse);
    return true;
  };
  for (bool again = true; again;) {
    block = block_sums<Teacher, Sums>(s, t, count, kept_s_ == nullptr ? nullptr : kept_s_ + first,
                                      kept_t_ == nullptr ? nullptr : kept_t_ + first);
    again = moved(sums_.student, sums_.teacher, s, block.student.sum);
    if constexpr (Teacher) again = moved(sums_.teacher, sums_.student, t, block.teacher.sum) || again;
  }
  if constexpr (keeps_exponentials<C, T>) {
    anchor_s_.push_back(sums_.student.anchor);
    if constexpr (Teacher) anchor_t_.push_back(sums_.teacher.anchor);
  }
  return block;
}

/// Of kept exponentials: p = e^((z - anchor of the block) / T) * factor of the block.
template <class Loops, class C, class T>
void RowWalker<Loops, C, T>::end_sweep(double inverse_temperature) {
  if constexpr (!keeps_exponentials<C, T>) return;
  const auto factors = [&](const SideSums& side, const std::vector<double>& anchors, std::vector<C>& out) {
    out.resize(anchors.size());
    const double one = 1 / side.sum;
    for (std::size_t b = 0; b < anchors.size(); ++b)
      out[b] = static_cast<C>(
          anchors[b] == side.anchor ? one : std::exp((anchors[b] - side.anchor) * inverse_temperature) * one);
  };
  factors(sums_.student, anchor_s_, factor_s_);
  if (with_teacher_) factors(sums_.teacher, anchor_t_, factor_t_);
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
  row.forward_kl = (log_s - log_t) - t.cross / t.sum * inverse;
  return row;
}

template <class Loops, class C, class T>
RowConstants<C> RowWalker<Loops, C, T>::constants() const {
  RowConstants<C> c;
  const auto side = [](const SideSums& sums, const C* kept, const std::vector<C>& factors) {
    const double l = std::log2(sums.sum), whole = std::floor(l);
    return SideConstants<C>{static_cast<C>(sums.anchor),
                            static_cast<C>(std::log(sums.sum)),
                            static_cast<C>(l - whole),
                            static_cast<C>(-whole),
                            kept,
                            factors.data()};
  };
  c.student = side(sums_.student, kept_s_, factor_s_);
  if (with_teacher_) {
    c.teacher = side(sums_.teacher, kept_t_, factor_t_);
    c.log_sum_difference = static_cast<C>(std::log(sums_.teacher.sum) - std::log(sums_.student.sum));
  }
  c.inverse_temperature = static_cast<C>(1 / temperature_);
  c.log2_scale = static_cast<C>(1.4426950408889634 / temperature_);
  c.floor = static_cast<C>(-1e6 * temperature_);
  return c;
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
