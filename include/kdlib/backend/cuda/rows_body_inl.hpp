// SPDX-License-Identifier: Apache-2.0
// One row of the CUDA row engine, as one thread block walks it. Written against a Block (thread index, barrier, shared memory) so that nvcc
// compiles it for the device and a test runs the very same code on the host, one std::thread a CUDA thread.
//
// Sweeps over the row: one online sweep a temperature for the log-sum-exps and moments; one more for each loss whose sum of h is not known
// from them; a last one that forms all terms' gradients, adds them in C and writes them once, in place. Sums are merged in a fixed tree.
#ifndef KDLIB_BACKEND_CUDA_ROWS_BODY_INL_HPP
#define KDLIB_BACKEND_CUDA_ROWS_BODY_INL_HPP

#include <cstdint>
#include <type_traits>

#include "kdlib/loss/concepts.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Sums of a part of a row about a running maximum: of e = e^((x - top) / T), of e x and of e (x - y), x and y about the row's anchors.
template <class C>
struct BlockSide {
  C top, sum, first, cross;
};
template <class C>
struct BlockState {
  BlockSide<C> s, t;
};

template <class C>
KDLIB_HOST_DEVICE inline void merge_side(BlockSide<C>& a, const BlockSide<C>& b, C inverse) {
  const C top = a.top > b.top ? a.top : b.top;
  const C u = exp((a.top - top) * inverse), v = exp((b.top - top) * inverse);
  a = {top, a.sum * u + b.sum * v, a.first * u + b.first * v, a.cross * u + b.cross * v};
}
template <class C>
KDLIB_HOST_DEVICE inline void push(BlockSide<C>& a, C x, C difference, C inverse) {
  if (x > a.top) {
    const C u = exp((a.top - x) * inverse);
    a = {x, a.sum * u, a.first * u, a.cross * u};
  }
  const C e = exp((x - a.top) * inverse);
  a.sum += e, a.first += e * x, a.cross += e * difference;
}

/// What the threads of a block share. `width` slots of each.
template <class C>
struct BlockShared {
  BlockState<C>* state;
  double* number;
};

/// One loss of the (perhaps nested) sum with its row's numbers.
template <class C>
struct BlockLeaf {
  RowStatistics row;
  C inverse = 1, log_s = 0, log_t = 0;  // log sums about the anchors
  double weight = 1;                    // term weight times T^2
  C scale = 0, subtract = 0;            // gradient += scale * (h - p_s * subtract)
  double label_derivative = 0, label_value = 0;
};

template <class Block, class T>
class BlockRow {
 public:
  using C = accumulate_t<T>;

  KDLIB_HOST_DEVICE BlockRow(Block& block, const RowTask<T>& task, std::int64_t r) : block_(block), task_(task), r_(r), n_(task.columns) {
    s_ = task.student + r * task.student_stride;
    t_ = task.teacher == nullptr ? nullptr : task.teacher + r * task.teacher_stride;
    g_ = task.gradient == nullptr ? nullptr : task.gradient + r * task.gradient_stride;
  }

  template <class Loss>
  KDLIB_HOST_DEVICE void run(const Loss& loss, RowResult& result) {
    weight_ = task_.weights == nullptr ? 1.0 : static_cast<double>(task_.weights[r_]);
    if (block_.thread() == 0) result = RowResult{};
    if (weight_ == 0) {
      if (g_ != nullptr)
        for (std::int64_t i = block_.thread(); i < n_; i += block_.size()) g_[i] = T(0.0f);
      return;
    }
    anchor_s_ = anchor(s_);
    if (t_ != nullptr) anchor_t_ = anchor(t_);
    if (task_.metrics) metrics(result.metrics);
    BlockLeaf<C> leaves[leaf_count<Loss>];
    int index = 0;
    prepare(loss, 1.0, leaves, index);
    const double value = last_sweep(loss, leaves);
    if (block_.thread() == 0) result.value = value;
  }

 private:
  static constexpr C lowest = C(-1e30f);
  KDLIB_HOST_DEVICE static C floor_of(double temperature) { return static_cast<C>(-1e6 * temperature); }

  /// The largest of the row's first entries: what logits are measured from.
  KDLIB_HOST_DEVICE C anchor(const T* z) {
    C m = lowest;
    for (std::int64_t i = block_.thread(); i < n_ && i < 4 * block_.size(); i += block_.size()) m = max(m, static_cast<C>(z[i]));
    const double all = reduce(static_cast<double>(m), [](double a, double b) { return a > b ? a : b; });
    return all > static_cast<double>(lowest) ? static_cast<C>(all) : C(0);
  }

  template <class F>
  KDLIB_HOST_DEVICE double reduce(double mine, F combine) {
    double* slots = block_.shared().number;
    slots[block_.thread()] = mine;
    for (std::int64_t half = block_.size() / 2; half > 0; half /= 2) {
      block_.barrier();
      if (block_.thread() < half) slots[block_.thread()] = combine(slots[block_.thread()], slots[block_.thread() + half]);
    }
    block_.barrier();
    const double all = slots[0];
    block_.barrier();
    return all;
  }
  KDLIB_HOST_DEVICE double add_up(double mine) {
    return reduce(mine, [](double a, double b) { return a + b; });
  }

  KDLIB_HOST_DEVICE RowStatistics statistics(double temperature) {
    const C inverse = static_cast<C>(1 / temperature), floor = floor_of(temperature);
    BlockState<C> mine{{floor, 0, 0, 0}, {floor, 0, 0, 0}};
    for (std::int64_t i = block_.thread(); i < n_; i += block_.size()) {
      const C x = max(floor, static_cast<C>(s_[i]) - anchor_s_);
      const C y = t_ == nullptr ? x : max(floor, static_cast<C>(t_[i]) - anchor_t_);
      push(mine.s, x, x - y, inverse);
      if (t_ != nullptr) push(mine.t, y, x - y, inverse);
    }
    BlockState<C>* slots = block_.shared().state;
    slots[block_.thread()] = mine;
    for (std::int64_t half = block_.size() / 2; half > 0; half /= 2) {
      block_.barrier();
      if (block_.thread() < half) {
        merge_side(slots[block_.thread()].s, slots[block_.thread() + half].s, inverse);
        if (t_ != nullptr) merge_side(slots[block_.thread()].t, slots[block_.thread() + half].t, inverse);
      }
    }
    block_.barrier();
    const BlockState<C> all = slots[0];
    block_.barrier();
    return from_state(all, temperature);
  }

  KDLIB_HOST_DEVICE RowStatistics from_state(const BlockState<C>& all, double temperature) const {
    RowStatistics row;
    const double inverse = 1 / temperature;
    row.temperature = temperature;
    row.columns = static_cast<double>(n_);
    const auto d = [](C x) { return static_cast<double>(x); };
    const double log_s = d(all.s.top) * inverse + log(d(all.s.sum));
    row.student_lse = d(anchor_s_) * inverse + log_s;
    row.student_entropy = log_s - d(all.s.first) / d(all.s.sum) * inverse;
    if (t_ == nullptr) return row;
    const double log_t = d(all.t.top) * inverse + log(d(all.t.sum));
    row.teacher_lse = d(anchor_t_) * inverse + log_t;
    row.teacher_entropy = log_t - d(all.t.first) / d(all.t.sum) * inverse;
    row.reverse_kl = d(all.s.cross) / d(all.s.sum) * inverse + (log_t - log_s);
    row.forward_kl = (log_s - log_t) - d(all.t.cross) / d(all.t.sum) * inverse;
    return row;
  }

  /// Entry i at a leaf's temperature.
  template <class X>
  KDLIB_HOST_DEVICE Entry<X> entry_at(std::int64_t i, const BlockLeaf<C>& leaf) const {
    const X floor = static_cast<X>(floor_of(leaf.row.temperature)), inverse = static_cast<X>(1 / leaf.row.temperature);
    const X x = max(floor, static_cast<X>(static_cast<C>(s_[i])) - static_cast<X>(anchor_s_));
    Entry<X> e{0, 0, x * inverse - static_cast<X>(leaf.log_s), 0};
    e.p_s = exp(e.log_p_s);
    if (t_ != nullptr) {
      const X y = max(floor, static_cast<X>(static_cast<C>(t_[i])) - static_cast<X>(anchor_t_));
      e.p_t = exp(y * inverse - static_cast<X>(leaf.log_t));
      e.log_ratio = (x - y) * inverse - static_cast<X>(leaf.log_s - leaf.log_t);
    }
    return e;
  }

  /// Statistics, label part and, where it is not known, the sum of h of every leaf.
  template <class Loss>
  KDLIB_HOST_DEVICE void prepare(const Loss& loss, double weight, BlockLeaf<C>* leaves, int& index) {
    if constexpr (is_loss_sum<Loss>) {
      loss.for_each([&](double w, const auto& l) { prepare(l, weight * w, leaves, index); });
    } else {
      static_assert(!has_support_part<Loss>, "losses on the teacher's top-k have no CUDA kernel yet: use the CPU, or LogitTargets");
      BlockLeaf<C>& leaf = leaves[index++];
      const double temperature = temperature_of(loss);
      leaf.row = statistics(temperature);
      leaf.inverse = static_cast<C>(1 / temperature);
      leaf.log_s = static_cast<C>(leaf.row.student_lse - static_cast<double>(anchor_s_) / temperature);
      if (t_ != nullptr) leaf.log_t = static_cast<C>(leaf.row.teacher_lse - static_cast<double>(anchor_t_) / temperature);
      leaf.weight = weight * factor_of(loss);
      leaf.scale = static_cast<C>(task_.scale * weight_ * leaf.weight / temperature);
      if constexpr (has_label_part<Loss>) {
        const Dual label = loss.at_label(label_point(leaf.row));
        leaf.label_value = label.value, leaf.label_derivative = label.derivative;
      }
      double derivative = 0;
      if constexpr (has_normaliser_part<Loss>) {
        const Dual normaliser = loss.at_normaliser(leaf.row);
        leaf.label_value += normaliser.value;
        derivative = -normaliser.derivative;
      }
      if constexpr (has_entry<Loss>) {
        if constexpr (has_derivative_sum<Loss>) {
          derivative += loss.derivative_sum(leaf.row);
        } else if (g_ != nullptr) {
          double mine = 0;
          for (std::int64_t i = block_.thread(); i < n_; i += block_.size())
            mine += static_cast<double>(loss.entry(leaf.row, entry_at<C>(i, leaf)).derivative);
          derivative += add_up(mine);
        }
      }
      leaf.subtract = static_cast<C>(derivative + leaf.label_derivative);
    }
  }

  KDLIB_HOST_DEVICE LabelPoint label_point(const RowStatistics& row) const {
    const std::int32_t y = task_.labels[r_];
    LabelPoint point;
    point.log_prob = {static_cast<double>(static_cast<C>(s_[y])) / row.temperature - row.student_lse, 1};
    if (t_ != nullptr) point.teacher_log_prob = static_cast<double>(static_cast<C>(t_[y])) / row.temperature - row.teacher_lse;
    else if (task_.teacher_label != nullptr) point.teacher_log_prob = static_cast<double>(task_.teacher_label[r_]);
    point.has_behaviour = task_.behaviour != nullptr;
    if (point.has_behaviour) point.behaviour_log_prob = static_cast<double>(task_.behaviour[r_]);
    return point;
  }

  /// Adds every leaf's value and gradient of entry i, in X.
  template <class X, class Loss>
  KDLIB_HOST_DEVICE void add_terms(const Loss& loss, const BlockLeaf<C>* leaves, int& index, std::int64_t i, bool is_label, double& value, X& gradient) const {
    if constexpr (is_loss_sum<Loss>) {
      loss.for_each([&](double, const auto& l) { add_terms(l, leaves, index, i, is_label, value, gradient); });
    } else {
      const BlockLeaf<C>& leaf = leaves[index++];
      const Entry<X> x = entry_at<X>(i, leaf);
      X h = 0;
      if constexpr (has_entry<Loss>) {
        const EntryLoss<X> e = loss.entry(leaf.row, x);
        value += leaf.weight * static_cast<double>(e.value);
        h = e.derivative;
      }
      gradient += static_cast<X>(leaf.scale) * (h - x.p_s * static_cast<X>(leaf.subtract) + (is_label ? static_cast<X>(leaf.label_derivative) : X(0)));
    }
  }

  /// The sweep that writes the gradient; returns the row's value. No entry is read after it was overwritten: the label's is thread-local.
  template <class Loss>
  KDLIB_HOST_DEVICE double last_sweep(const Loss& loss, const BlockLeaf<C>* leaves) {
    constexpr bool labelled = has_label_part<Loss>;
    const std::int64_t y = labelled ? task_.labels[r_] : -1;
    double mine = 0;
    block_.barrier();  // every thread has read the label's logits
    for (std::int64_t i = block_.thread(); i < n_; i += block_.size()) {
      int index = 0;
      if (i == y) {  // p_s - 1 in double
        double gradient = 0;
        add_terms(loss, leaves, index, i, true, mine, gradient);
        if (g_ != nullptr) g_[i] = T(static_cast<C>(gradient));
      } else {
        C gradient = 0;
        add_terms(loss, leaves, index, i, false, mine, gradient);
        if (g_ != nullptr) g_[i] = T(gradient);
      }
    }
    double value = add_up(mine);
    for (int k = 0; k < leaf_count<Loss>; ++k) value += leaves[k].weight * leaves[k].label_value;
    return value;
  }

  /// Id of the largest entry that comes after (value, id) in the order "larger value first, then lower id".
  KDLIB_HOST_DEVICE std::int64_t next_largest(const T* z, double before, std::int64_t before_id) {
    double best = -1.7976931348623157e308;
    std::int64_t id = n_;
    for (std::int64_t i = block_.thread(); i < n_; i += block_.size()) {
      const double v = static_cast<double>(static_cast<C>(z[i]));
      const bool after = v < before || (v == before && i > before_id);
      if (after && (v > best || id == n_)) best = v, id = i;
    }
    const double top = reduce(id == n_ ? -1.7976931348623157e308 : best, [](double a, double b) { return a > b ? a : b; });
    const double lowest_id = reduce(id < n_ && best == top ? static_cast<double>(id) : static_cast<double>(n_), [](double a, double b) { return a < b ? a : b; });
    return static_cast<std::int64_t>(lowest_id);
  }
  KDLIB_HOST_DEVICE int five_largest(const T* z, std::int64_t* ids) {
    double before = 1.7976931348623157e308;
    std::int64_t id = -1;
    int count = 0;
    while (count < 5 && count < n_) {
      id = next_largest(z, before, id);
      if (id >= n_) break;
      before = static_cast<double>(static_cast<C>(z[id]));
      ids[count++] = id;
    }
    return count;
  }

  KDLIB_HOST_DEVICE void metrics(RowMetrics& out) {
    const RowStatistics row = statistics(1.0);
    RowMetrics m;
    m.weight = 1;
    m.student_entropy = max(0.0, row.student_entropy);
    std::int64_t s[5] = {-1, -1, -1, -1, -1}, t[5] = {-1, -1, -1, -1, -1};
    const int count = five_largest(s_, s);
    if (t_ != nullptr) {
      five_largest(t_, t);
      m.teacher_weight = 1;
      m.teacher_entropy = max(0.0, row.teacher_entropy);
      m.forward_kl = max(0.0, row.forward_kl);
      m.reverse_kl = max(0.0, row.reverse_kl);
      m.top1_agreement = s[0] == t[0] ? 1 : 0;
      int common = 0;
      for (int i = 0; i < count; ++i)
        for (int j = 0; j < count; ++j) common += t[i] == s[j] ? 1 : 0;
      m.top5_overlap = count > 0 ? static_cast<double>(common) / count : 0;
      for (int i = 0; i < count; ++i)
        if (s[i] == t[0]) m.top5_contains = 1;
    }
    if (task_.labels != nullptr) {
      const std::int64_t y = task_.labels[r_];
      m.label_weight = 1;
      m.label_log_prob = static_cast<double>(static_cast<C>(s_[y])) - row.student_lse;
      m.label_top1 = s[0] == y ? 1 : 0;
    }
    if (block_.thread() == 0) out = m;
  }

  Block& block_;
  const RowTask<T>& task_;
  std::int64_t r_, n_;
  const T* s_ = nullptr;
  const T* t_ = nullptr;
  T* g_ = nullptr;
  C anchor_s_ = 0, anchor_t_ = 0;
  double weight_ = 1;
};

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
