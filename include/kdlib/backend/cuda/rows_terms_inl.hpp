// SPDX-License-Identifier: Apache-2.0
// The terms of a loss in the CUDA row engine and the last sweep, which adds them up and writes the gradient.
#ifndef KDLIB_BACKEND_CUDA_ROWS_TERMS_INL_HPP
#define KDLIB_BACKEND_CUDA_ROWS_TERMS_INL_HPP

#include "kdlib/backend/cuda/rows_body_inl.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

template <class Block, class T>
template <class Whole, class Loss>
KDLIB_HOST_DEVICE void BlockRow<Block, T>::prepare(const Loss& loss, double weight, int& index) {
  if constexpr (is_loss_sum<Loss>) {
    loss.for_each([&](double w, const auto& l) { prepare<Whole>(l, weight * w, index); });
  } else {
    const auto& leaves = shared_.leaves;
    const int mine = index++;
    const double temperature = temperature_of(loss);
    block_.barrier();  // the leaves before, and those of the metrics, are written
    int same = known_ && temperature == 1 ? leaf_count<Whole> : -1;
    for (int k = 0; k < mine; ++k)
      if (leaves.read(k).at.row.temperature == temperature) same = k;
    BlockStatistics at;
    if (same >= 0) at = leaves.read(same).at;
    else if (reads_teacher_rows<Whole> && t_ != nullptr)
      at = statistics<reads_teacher_rows<Whole>, moments_of<Whole>.any(), reads_support<Whole>, false>(
          temperature, nullptr, nullptr);
    else at = statistics<false, moments_of<Whole>.any(), reads_support<Whole>, false>(temperature, nullptr, nullptr);
    if (leader()) fill_leaf(loss, weight, at, leaves.write(mine));
    block_.barrier();
    if constexpr (reads_head_share<Loss>) {
      const double share = head_share(loss.head_mass, leaves.read(mine));
      block_.barrier();
      if (leader()) leaves.write(mine).at.row.head_share = share;
      block_.barrier();
    }
    double subtract = leaves.read(mine).subtract;
    if constexpr (has_support_part<Loss>) subtract += support_terms(loss, mine);
    if constexpr (has_entry<Loss>) {
      if constexpr (has_derivative_sum<Loss>) subtract += loss.derivative_sum(leaves.read(mine).at.row);
      else if (g_ != nullptr) subtract += derivative_sweep(loss, leaves.read(mine));
    }
    block_.barrier();  // every thread has read the leaf's old number
    if (leader()) leaves.write(mine).subtract = subtract;
  }
}

template <class Block, class T>
template <class Loss>
KDLIB_HOST_DEVICE void BlockRow<Block, T>::fill_leaf(const Loss& loss, double weight, const BlockStatistics& at,
                                                     BlockLeaf& leaf) {
  leaf = BlockLeaf{};
  leaf.at = at;
  leaf.weight = weight * factor_of(loss);
  leaf.scale = task_.scale * weight_ * leaf.weight / at.row.temperature;
  if constexpr (has_label_part<Loss>) {
    LabelPoint point = label_point(at);
    if (t_ != nullptr && moments_of<Loss>.any()) point.reverse_kl = at.row.reverse_kl;
    const Dual label = loss.at_label(point);
    if constexpr (has_clamp<Loss>)
      if (task_.metrics && has_limits(loss)) {
        result_->metrics.clamp_weight = 1;
        if (loss.clamped(point)) result_->metrics.clamped = 1;
      }
    leaf.value += label.value;
    leaf.label_derivative = leaf.subtract = label.derivative;
  }
  if constexpr (has_normaliser_part<Loss>) {
    const Dual normaliser = loss.at_normaliser(at.row);
    leaf.value += normaliser.value;
    leaf.subtract -= normaliser.derivative;
  }
}

template <class Block, class T>
KDLIB_HOST_DEVICE LabelPoint BlockRow<Block, T>::label_point(const BlockStatistics& at) const {
  const std::int32_t y = task_.labels[r_];
  LabelPoint point;
  const double temperature = at.row.temperature;
  point.log_prob = {log_prob_of(s_[y], at.top_s, at.log_s, temperature), 1};
  if (t_ != nullptr) point.teacher_log_prob = log_prob_of(t_[y], at.top_t, at.log_t, temperature);
  else if (task_.teacher_label != nullptr)
    point.teacher_log_prob = at_least_lowest_log_prob(static_cast<double>(task_.teacher_label[r_]));
  point.has_behaviour = task_.behaviour != nullptr;
  if (point.has_behaviour) point.behaviour_log_prob = static_cast<double>(task_.behaviour[r_]);
  return point;
}

/// Explicit fma: both sides are rounded alike, so p_s = p_t exactly for equal logits.
template <class Block, class T>
template <bool Teacher, class X>
KDLIB_HOST_DEVICE Entry<X> BlockRow<Block, T>::entry(C s, C t, const BlockConstants<X>& c) const {
  const X x = max(c.floor, static_cast<X>(s) - c.top_s);
  Entry<X> e{{0, fma(x, c.inverse, -c.log_s)}, 0, 0};
  e.p_s = exp(e.log_p_s);
  if constexpr (Teacher) {
    const X y = max(c.floor, static_cast<X>(t) - c.top_t);
    e.p_t = exp(fma(y, c.inverse, -c.log_t));
    e.log_ratio = fma(x - y, c.inverse, c.log_difference);
  }
  return e;
}

/// Sum of h.
template <class Block, class T>
template <class Loss>
KDLIB_HOST_DEVICE double BlockRow<Block, T>::derivative_sweep(const Loss& loss, const BlockLeaf& leaf) {
  constexpr bool teacher = reads_teacher<Loss>;
  const BlockConstants<C> c = BlockConstants<C>::of(leaf, false);
  double mine = 0;
  team_.template tiles<teacher, false, false, C>(s_, t_, static_cast<T*>(nullptr), n_, {}, 0, [&](auto& lanes) {
    C sum = 0;
    KDLIB_UNROLL
    for (int j = 0; j < block_width<T>; ++j)
      if (lanes.valid >> j & 1u)
        sum += loss.entry(leaf.at.row, as_entry_of<Loss>(entry<teacher>(lanes.s[j], teacher ? lanes.t[j] : C(0), c)))
                   .derivative;
    mine += static_cast<double>(sum);
  });
  return team_.add_up(mine);
}

/// Adds every leaf's value and gradient of one entry, in X.
template <class Block, class T>
template <bool Teacher, class X, class Loss>
KDLIB_HOST_DEVICE void BlockRow<Block, T>::add_terms(const Loss& loss, const BlockConstants<X>* constants, int& index,
                                                     C s, C t, bool is_label, bool on_support, Entry<X>& x, X& value,
                                                     X& gradient) const {
  if constexpr (is_loss_sum<Loss>) {
    loss.for_each([&](double, const auto& l) {
      add_terms<Teacher>(l, constants, index, s, t, is_label, on_support, x, value, gradient);
    });
  } else {
    const BlockConstants<X>& c = constants[index];
    if (!c.shares) x = entry<Teacher>(s, t, c);
    if constexpr (has_support_part<Loss>) {
      if (!on_support) {  // by the entry's share of the mass outside, which may be far below any p of X
        const X z = max(c.floor, static_cast<X>(s) - c.top_s);
        gradient -= c.scale * (exp(fma(z, c.inverse, -c.log_outside)) * c.subtract);
      }
    } else {
      X h = 0;
      if constexpr (has_entry<Loss>) {
        const EntryLoss<X> e = loss.entry(shared_.leaves.read(index).at.row, as_entry_of<Loss>(x));
        value += c.weight * e.value;
        h = e.derivative;
      }
      gradient += c.scale * (h - x.p_s * c.subtract + (is_label ? c.label_derivative : X(0)));
    }
    ++index;
  }
}

/// The label's entry (p_s - 1) and those of the support, in double.
template <class Block, class T>
template <class Loss>
KDLIB_HOST_DEVICE typename BlockRow<Block, T>::C BlockRow<Block, T>::special_entry(const Loss& loss, std::int64_t i,
                                                                                   bool is_label, bool on_support,
                                                                                   int slot_begin, int slot_end,
                                                                                   double& value) const {
  constexpr bool teacher = reads_teacher<Loss>;
  BlockConstants<double> constants[leaf_count<Loss>];
  KDLIB_UNROLL
  for (int k = 0; k < leaf_count<Loss>; ++k) constants[k] = BlockConstants<double>::of(shared_.leaves.read(k), false);
  double gradient = 0;
  if (on_support)
    for (int k = slot_begin; k < slot_end; ++k)
      if (shared_.support.ids.read(k) == i) gradient += shared_.support.gradient.read(k);
  int index = 0;
  Entry<double> x{};
  add_terms<teacher>(loss, constants, index, static_cast<C>(s_[i]), teacher ? static_cast<C>(t_[i]) : C(0), is_label,
                     on_support, x, value, gradient);
  return static_cast<C>(gradient);
}

/// The last sweep, which writes the gradient; returns the sum of the entries' values. A thread writes only entries that
/// it alone reads; the label's and the support's logits were read before.
template <class Block, class T>
template <bool Write, class Loss>
KDLIB_HOST_DEVICE double BlockRow<Block, T>::terms_sweep(const Loss& loss) {
  constexpr bool teacher = reads_teacher<Loss>, support = reads_support<Loss>;
  const std::int64_t y = has_label_part<Loss> ? task_.labels[r_] : -1;
  BlockConstants<C> constants[leaf_count<Loss>];
  KDLIB_UNROLL
  for (int k = 0; k < leaf_count<Loss>; ++k)
    constants[k] =
        BlockConstants<C>::of(shared_.leaves.read(k), k > 0 && shared_.leaves.read(k).at.row.temperature ==
                                                                   shared_.leaves.read(k - 1).at.row.temperature);
  double mine = 0;
  team_.template tiles<teacher, support, Write, C>(
      s_, t_, g_, n_, shared_.support.ids, support_count_, [&](auto& lanes) {
        unsigned special = lanes.special;
        if (y >= 0 && y >= lanes.first && y < lanes.first + block_width<T>) special |= 1u << (y - lanes.first);
        C value = 0;
        KDLIB_UNROLL
        for (int j = 0; j < block_width<T>; ++j) {
          C gradient = 0, part = 0;
          int index = 0;
          Entry<C> x{};
          add_terms<teacher>(loss, constants, index, lanes.s[j], teacher ? lanes.t[j] : C(0), false, false, x, part,
                             gradient);
          lanes.out[j] = gradient;
          if ((lanes.valid & ~special) >> j & 1u) value += part;
        }
        mine += static_cast<double>(value);
        for (int j = 0; special != 0; ++j, special >>= 1) {  // few, and read again: the pack is not stored yet
          if (!(special & 1u)) continue;
          const std::int64_t i = lanes.first + j;
          const C gradient =
              special_entry(loss, i, i == y, (lanes.special >> j & 1u) != 0, lanes.slot_begin, lanes.slot_end, mine);
          KDLIB_UNROLL
          for (int k = 0; k < block_width<T>; ++k)
            if (k == j) lanes.out[k] = gradient;
        }
      });
  return mine;
}

template <class Block, class T>
template <class Loss>
KDLIB_HOST_DEVICE double BlockRow<Block, T>::last_sweep(const Loss& loss) {
  block_.barrier();  // every thread has read the label's logits, and the leaves are filled
  double value = 0;
  if (g_ != nullptr) value = terms_sweep<true>(loss);
  else if constexpr (has_entry<Loss>) value = terms_sweep<false>(loss);
  const auto& leaves = shared_.leaves;
  if constexpr (has_entry<Loss>) value = within_bounds(loss, team_.add_up(value), leaves.read(0).weight);
  for (int k = 0; k < leaf_count<Loss>; ++k) value += leaves.read(k).weight * leaves.read(k).value;
  return value;
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
