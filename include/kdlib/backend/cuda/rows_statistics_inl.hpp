// SPDX-License-Identifier: Apache-2.0
// First sweep of the CUDA row engine and the metrics.
#ifndef KDLIB_BACKEND_CUDA_ROWS_STATISTICS_INL_HPP
#define KDLIB_BACKEND_CUDA_ROWS_STATISTICS_INL_HPP

#include "kdlib/backend/cuda/rows_body_inl.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

template <class Block, class T>
template <bool Support>
KDLIB_HOST_DEVICE BlockAnchors BlockRow<Block, T>::first_anchors() {
  BlockTriple m{lowest, lowest, 0};
  for (std::int64_t i = block_.thread(); i < n_ && i < 4 * block_.size(); i += block_.size()) {
    bool counted = true;
    if constexpr (Support)
      for (int k = 0; k < support_count_; ++k) counted = counted && shared_.support.ids.read(k) != i;
    if (counted) m.a = max(static_cast<double>(static_cast<C>(s_[i])), m.a);
    if (t_ != nullptr) m.b = max(static_cast<double>(static_cast<C>(t_[i])), m.b);
  }
  m = team_.largest(m);
  return {m.a, m.b};
}

template <class Block, class T>
template <bool Sums>
KDLIB_HOST_DEVICE void BlockRow<Block, T>::push(BlockSide& side, const C (&x)[block_width<T>],
                                                const C (&y)[block_width<T>], unsigned counted, C inverse) const {
  C sum = 0, first = 0, cross = 0;
  KDLIB_UNROLL
  for (int j = 0; j < block_width<T>; ++j) {
    if (!(counted >> j & 1u)) continue;
    const C e = exp(x[j] * inverse);
    sum += e;
    if (Sums) first += e * x[j], cross += e * (x[j] - y[j]);
  }
  side.sum += static_cast<double>(sum);
  if (Sums) side.first += static_cast<double>(first), side.cross += static_cast<double>(cross);
}

template <class Block, class T>
KDLIB_HOST_DEVICE typename BlockRow<Block, T>::C BlockRow<Block, T>::raise(BlockState& mine,
                                                                           BlockSide BlockState::*side,
                                                                           BlockSide BlockState::*other, C top,
                                                                           const C (&z)[block_width<T>],
                                                                           unsigned counted, double inverse) const {
  C highest = top;
  KDLIB_UNROLL
  for (int j = 0; j < block_width<T>; ++j)
    if (z[j] > highest && (counted >> j & 1u)) highest = z[j];
  if (highest > top) {
    const double shift = (static_cast<double>(top) - static_cast<double>(highest)) * inverse;
    raise_side(mine.*side, mine.*other, static_cast<double>(highest), exp(shift));
    if (shift < -1e5) mine.cut += 1;
  }
  return highest;
}

template <class Block, class T>
template <bool Teacher, bool Sums, bool Support, bool Tops>
KDLIB_HOST_DEVICE BlockState BlockRow<Block, T>::sweep(double temperature, const BlockAnchors& anchors,
                                                       BlockTops<C>& best, int& above) {
  const double inverse = 1 / temperature;
  const C inverse_c = static_cast<C>(inverse), floor = static_cast<C>(-1e6 * temperature);
  C top_s = static_cast<C>(anchors.s), top_t = static_cast<C>(anchors.t);
  BlockState mine{{anchors.s, 0, 0, 0}, {anchors.t, 0, 0, 0}, 0};
  const C label = Tops && task_.labels != nullptr ? static_cast<C>(s_[task_.labels[r_]]) : C(0);
  const T* teacher = t_ == nullptr ? s_ : t_;  // metrics without a teacher: compiled once for both
  team_.template tiles<Teacher, Support, false, C>(
      s_, teacher, static_cast<T*>(nullptr), n_, shared_.support.ids, support_count_, [&](auto& lanes) {
        const unsigned counted = lanes.valid & ~lanes.special;
        C x[block_width<T>], y[block_width<T>];
        top_s = raise(mine, &BlockState::s, &BlockState::t, top_s, lanes.s, counted, inverse);
        if constexpr (Teacher)
          top_t = raise(mine, &BlockState::t, &BlockState::s, top_t, lanes.t, lanes.valid, inverse);
        bool cut = false;
        KDLIB_UNROLL
        for (int j = 0; j < block_width<T>; ++j) {
          x[j] = max(floor, lanes.s[j] - top_s);
          y[j] = Teacher ? max(floor, lanes.t[j] - top_t) : x[j];
          if (Teacher && Sums) cut = cut || ((lanes.valid >> j & 1u) && (x[j] == floor || y[j] == floor));
        }
        if (cut) mine.cut += 1;
        push<Sums>(mine.s, x, y, counted, inverse_c);
        if constexpr (Teacher) push<Sums>(mine.t, y, x, lanes.valid, inverse_c);
        if constexpr (Tops) {
          KDLIB_UNROLL
          for (int j = 0; j < block_width<T>; ++j) {
            if (!(lanes.valid >> j & 1u)) continue;
            above += lanes.s[j] > label ? 1 : 0;
            best.s.insert(lanes.s[j], static_cast<std::int32_t>(lanes.first + j));
            if constexpr (Teacher) best.t.insert(lanes.t[j], static_cast<std::int32_t>(lanes.first + j));
          }
        }
      });
  return mine;
}

/// A row of which entries were cut at the floor is swept again from its largest entries, so that no maximum moves after
/// an entry was cut.
template <class Block, class T>
template <bool Teacher, bool Sums, bool Support, bool Tops>
KDLIB_HOST_DEVICE BlockStatistics BlockRow<Block, T>::statistics(double temperature, BlockTops<C>* tops,
                                                                 double* above_label) {
  BlockAnchors anchors = first_anchors<Support>();
  BlockTops<C> best;
  BlockState all;
  int above = 0;
  for (int attempt = 0; attempt < 2; ++attempt) {
    best = {BlockTop<C>::none(), BlockTop<C>::none()};
    above = 0;
    all = team_.reduce(
        sweep<Teacher, Sums, Support, Tops>(temperature, anchors, best, above),
        [temperature](BlockState& a, const BlockState& b) { merge_states(a, b, Teacher, 1 / temperature); });
    if (all.cut == 0 || (all.s.top == anchors.s && all.t.top == anchors.t)) break;
    anchors = {all.s.top, all.t.top};
  }
  if constexpr (Tops) {
    *above_label = team_.add_up(static_cast<double>(above));
    *tops = team_.reduce(best, [](BlockTops<C>& a, const BlockTops<C>& b) {
      a.s.merge(b.s);
      if constexpr (Teacher) a.t.merge(b.t);
    });
  }
  double log_tail_s = 0;
  if constexpr (Support) log_tail_s = add_support<Sums>(all.s, 1 / temperature);
  BlockStatistics out = from_sides(all.s, all.t, Teacher, Sums, temperature);
  out.log_tail_s = log_tail_s;
  return out;
}

/// Adds the support to the student's sums, about the larger of both parts' anchors, and returns the log of the mass
/// outside. That mass was summed about its own anchor, not got by subtraction: a tail of e^-1000 is as exact as one of
/// 0.1. A row with a support has no teacher's logits, so its cross sum is not read.
template <class Block, class T>
template <bool Sums>
KDLIB_HOST_DEVICE double BlockRow<Block, T>::add_support(BlockSide& all, double inverse) {
  const int threads = static_cast<int>(block_.size()), thread = static_cast<int>(block_.thread());
  BlockTriple top{all.top, 0, 0}, sums{0, 0, 0};
  for (int k = thread; k < support_count_; k += threads) top.a = max(top.a, support_logit(k));
  top = team_.largest(top);
  for (int k = thread; k < support_count_; k += threads) {
    const double x = at_least_lowest_log_prob((support_logit(k) - top.a) * inverse), e = exp(x);
    sums.a += e, sums.b += e * x / inverse;
  }
  sums = team_.add_up(sums);
  const double shift = all.top - top.a, u = exp(shift * inverse), tail = all.sum;
  all = {top.a, tail * u + sums.a, tail > 0 ? (all.first + shift * tail) * u + sums.b : sums.b, 0};
  const double log_tail = tail > 0 ? shift * inverse + log(tail) - log(all.sum) : log(0.0);
  return support_count_ < n_ ? at_least_lowest_log_prob(log_tail) : log_tail;
}

template <class Block, class T>
KDLIB_HOST_DEVICE BlockStatistics BlockRow<Block, T>::from_sides(const BlockSide& s, const BlockSide& t, bool teacher,
                                                                 bool sums, double temperature) const {
  BlockStatistics out;
  RowStatistics& row = out.row;
  const double inverse = 1 / temperature;
  row.temperature = temperature;
  row.columns = static_cast<double>(n_);
  out.top_s = s.top, out.log_s = log(s.sum);
  row.student_lse = s.top * inverse + out.log_s;
  if (sums) row.student_entropy = out.log_s - s.first / s.sum * inverse;
  if (!teacher) return out;
  out.top_t = t.top, out.log_t = log(t.sum);
  row.teacher_lse = t.top * inverse + out.log_t;
  if (!sums) return out;
  row.teacher_entropy = out.log_t - t.first / t.sum * inverse;
  row.reverse_kl = s.cross / s.sum * inverse + (out.log_t - out.log_s);
  row.forward_kl = t.cross / t.sum * inverse + (out.log_s - out.log_t);
  return out;
}

template <class Block, class T>
template <class Loss>
KDLIB_HOST_DEVICE void BlockRow<Block, T>::metrics(RowMetrics& out) {
  BlockTops<C> tops{BlockTop<C>::none(), BlockTop<C>::none()};
  double above = 0;
  const BlockStatistics at = statistics<true, true, reads_support<Loss>, true>(1.0, &tops, &above);
  known_ = true;
  if (!leader()) return;
  shared_.leaves.write(leaf_count<Loss>).at = at;
  const RowStatistics& row = at.row;
  RowMetrics m;
  m.weight = 1;
  m.student_entropy = max(0.0, row.student_entropy);
  if (t_ != nullptr) {
    m.teacher_weight = 1;
    m.teacher_entropy = max(0.0, row.teacher_entropy);
    m.forward_kl = max(0.0, row.forward_kl);
    m.reverse_kl = max(0.0, row.reverse_kl);
    m.top1_agreement = tops.s.id[0] == tops.t.id[0] ? 1 : 0;
    const int count = tops.t.count();
    int common = 0;
    KDLIB_UNROLL
    for (int k = 0; k < 5; ++k) common += tops.t.id[k] >= 0 && tops.s.holds(tops.t.id[k]) ? 1 : 0;
    m.top5_overlap = count > 0 ? static_cast<double>(common) / count : 0;
    m.top5_contains = tops.s.holds(tops.t.id[0]) ? 1 : 0;
  }
  if (task_.labels != nullptr) {
    const std::int32_t y = task_.labels[r_];
    m.label_weight = 1;
    m.label_log_prob = log_prob_of(s_[y], at.top_s, at.log_s, 1.0);
    m.label_rank = m.label_log_prob == m.label_log_prob ? 1 + above : m.label_log_prob;
    m.label_top1 = tops.s.id[0] == y ? 1 : 0;
  }
  out = m;
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
