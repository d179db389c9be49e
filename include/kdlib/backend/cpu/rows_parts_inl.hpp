// SPDX-License-Identifier: Apache-2.0
// Parts of the row walker beside the sweeps: metrics, losses on the teacher's top-k, what a head does to logits.
#ifndef KDLIB_BACKEND_CPU_ROWS_PARTS_INL_HPP
#define KDLIB_BACKEND_CPU_ROWS_PARTS_INL_HPP

#include "kdlib/backend/cpu/rows_inl.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

template <class Loops, class C, class T>
TopFive RowWalker<Loops, C, T>::top_five(const T* z, const std::vector<C>& maxima) const {
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
    Loops::template collect<C>(z + first, std::min(row_block, n_ - first), first, bound, top);
  }
  return top;
}

template <class Loops, class C, class T>
void RowWalker<Loops, C, T>::metrics(RowMetrics& m) {
  const RowStatistics row = row_statistics();
  const auto not_negative = [](double x) { return x < 0 ? 0.0 : x; };
  const TopFive s = top_five(student_, maxima_s_);
  m.weight = 1;
  m.student_entropy = not_negative(row.student_entropy);
  if (teacher_ != nullptr) {
    const TopFive t = top_five(teacher_, maxima_t_);
    m.teacher_weight = 1;
    m.teacher_entropy = not_negative(row.teacher_entropy);
    m.forward_kl = not_negative(row.forward_kl);
    m.reverse_kl = not_negative(row.reverse_kl);
    m.top1_agreement = s.id[0] == t.id[0] ? 1 : 0;
    int common = 0;
    for (int i = 0; i < t.count; ++i) common += s.holds(t.id[i]) ? 1 : 0;
    m.top5_overlap = t.count > 0 ? static_cast<double>(common) / t.count : 0;
    m.top5_contains = s.holds(t.id[0]) ? 1 : 0;
  }
  if (task_.labels != nullptr) {
    const std::int64_t y = task_.labels[r_];
    m.label_weight = 1;
    m.label_log_prob = log_prob_of(student_[y], sums_.student, 1.0);
    m.label_top1 = s.id[0] == y ? 1 : 0;
    m.label_rank = std::isnan(m.label_log_prob) ? m.label_log_prob : 1 + above_label_;
  }
}

template <class Loops, class C, class T>
void RowWalker<Loops, C, T>::js_metric(RowMetrics& m) {
  EntrySums sums;
  Loops::template entries<C, T, C, Sweep::value>(JsEntry{}, RowStatistics{}, constants(), student_, teacher_, n_,
                                                 static_cast<C*>(nullptr), static_cast<C*>(nullptr),
                                                 static_cast<const C*>(nullptr), sums);
  m.js_weight = 1;
  m.js = within_bounds(JsEntry{}, sums.value);
}

/// The share of the head in sum |p_s - p_t|. Entries below (1 - head_mass) / V weigh less than 1 - head_mass together,
/// so none of them is in the head.
template <class Loops, class C, class T>
double RowWalker<Loops, C, T>::head_share(double head_mass, const RowConstants<C>& c) const {
  EntrySums sums;
  Loops::template entries<C, T, C, Sweep::value>(GapEntry{}, RowStatistics{}, c, student_, teacher_, n_,
                                                 static_cast<C*>(nullptr), static_cast<C*>(nullptr),
                                                 static_cast<const C*>(nullptr), sums);
  if (std::isnan(sums.value)) return sums.value;
  const double smallest = std::log((1 - head_mass) / static_cast<double>(n_)) + std::log(sums_.teacher.sum);
  const double bound = sums_.teacher.anchor + temperature_ * (smallest - 1e-3);  // a little lower: it is rounded to C
  FoundEntries candidates;
  Loops::template collect<C>(teacher_, n_, 0, static_cast<C>(bound), candidates);
  auto& head = candidates.found;
  std::sort(head.begin(), head.end(),
            [](const auto& a, const auto& b) { return a.first != b.first ? a.first > b.first : a.second < b.second; });
  double mass = 0, gap = 0;
  for (const auto& candidate : head) {
    if (mass >= head_mass) break;
    const Entry<double> e = entry_of(candidate.second, temperature_);
    mass += e.p_t, gap += std::abs(e.p_s - e.p_t);
  }
  return sums.value > 0 ? std::min(1.0, gap / sums.value) : 0.5;
}

template <class Loops, class C, class T>
void RowWalker<Loops, C, T>::gather_support() {
  const std::int64_t size = task_.support_size, at = r_ * size;
  order_.clear();
  for (std::int64_t k = 0; k < size; ++k) {
    const std::int32_t id = task_.support_ids[at + k];
    if (id >= 0) order_.push_back(static_cast<std::uint64_t>(id) << 32 | static_cast<std::uint64_t>(k));
  }
  std::sort(order_.begin(), order_.end());
  support_.clear();
  for (const std::uint64_t o : order_) {
    const auto id = static_cast<std::int32_t>(o >> 32);
    const double log_p =
        at_least_lowest(static_cast<double>(task_.support_log_probs[at + static_cast<std::int64_t>(o & 0xFFFFFFFF)]));
    if (!support_.empty() && support_.back().first == id)  // an id that comes twice has the mass of both
      support_.back().second = log_of_both(support_.back().second, log_p);
    else support_.emplace_back(id, log_p);
  }
}

/// The first sweep with the mass outside the support apart. A block is summed whole and its part of the support taken
/// off where that is at most nine tenths of it (the difference then loses three bits); where it is more, the block is
/// summed again without the support, so a tail of 1e-12 is as exact as one of 0.1.
template <class Loops, class C, class T>
void RowWalker<Loops, C, T>::support_sweep(double temperature) {
  temperature_ = temperature;
  with_teacher_ = with_sums_ = false;
  double inside = 0;  // of the support, about the anchor
  for (const std::int64_t count : {std::min(n_, row_block), n_}) {
    double highest = std::max(lowest_logit<C>, Loops::template largest<C>(student_, count));
    for (const auto& [id, log_p] : support_) highest = std::max(highest, static_cast<double>(student_[id]));
    start_sweep(highest, 0);
    inside = 0;
    if ((highest > least_anchor || count == n_) && add_blocks_outside(count < n_, inside)) break;
  }
  SideSums& side = sums_.student;
  tail_ = side;
  side.sum += inside;
  // Far below the support the exponentials of the outside are no normal numbers of C about the row's anchor.
  if (tail_.sum < 1e-20 * side.sum && static_cast<std::int64_t>(support_.size()) < n_) sum_tail();
  const double log_sum = std::log(side.sum);
  log_tail_s_ = tail_.sum > 0 ? (tail_.anchor - side.anchor) / temperature + std::log(tail_.sum) - log_sum
                              : -std::numeric_limits<double>::infinity();
  if (static_cast<std::int64_t>(support_.size()) < n_) log_tail_s_ = at_least_lowest(log_tail_s_);
  support_log_t_.clear(), support_log_s_.clear(), support_p_s_.clear();
  for (const auto& [id, log_p] : support_) {
    support_log_t_.push_back(log_p);
    support_log_s_.push_back(log_prob_of(student_[id], side, temperature));
    support_p_s_.push_back(std::exp(support_log_s_.back()));
  }
  support_derivative_.assign(support_.size(), 0.0);
}

/// Adds the mass outside the support to the student's sum and that of the support to `inside`. False where `may_stop`
/// and an entry lies more than 20 T above the anchor.
template <class Loops, class C, class T>
bool RowWalker<Loops, C, T>::add_blocks_outside(bool may_stop, double& inside) {
  SideSums& side = sums_.student;
  std::size_t next = 0;
  for (std::int64_t first = 0; first < n_; first += row_block) {
    const std::int64_t count = std::min(row_block, n_ - first);
    double outside = block_sums<false, false>(student_ + first, nullptr, count, first).student.sum, here = 0;
    if (may_stop && too_high(side, student_ + first, count, outside)) return false;
    const std::size_t begin = next;
    for (; next < support_.size() && support_[next].first < first + count; ++next)
      here +=
          std::exp(at_least_lowest((static_cast<double>(student_[support_[next].first]) - side.anchor) / temperature_));
    if (here > 0.9 * outside) outside = masked_sum(first, count, begin, next);
    else outside -= here;
    side.sum += outside;
    inside += here;
  }
  return true;
}

/// A block of the student's logits without those of support_[begin, end).
template <class Loops, class C, class T>
const T* RowWalker<Loops, C, T>::masked_block(std::int64_t first, std::int64_t count, std::size_t begin,
                                              std::size_t end) {
  masked_.assign(student_ + first, student_ + first + count);
  for (std::size_t k = begin; k < end; ++k)
    masked_[static_cast<std::size_t>(support_[k].first - first)] =
        static_cast<T>(-std::numeric_limits<float>::infinity());
  return masked_.data();
}

template <class Loops, class C, class T>
double RowWalker<Loops, C, T>::masked_sum(std::int64_t first, std::int64_t count, std::size_t begin, std::size_t end) {
  return block_sums<false, false>(masked_block(first, count, begin, end), nullptr, count, first).student.sum;
}

/// Sums the outside about its own largest entry, block by block.
template <class Loops, class C, class T>
void RowWalker<Loops, C, T>::sum_tail() {
  const SideSums side = sums_.student;
  tail_ = {};
  tail_.anchor = lowest_logit<C>;
  const auto over_blocks = [&](auto&& f) {
    std::size_t next = 0;
    for (std::int64_t first = 0; first < n_; first += row_block) {
      const std::int64_t count = std::min(row_block, n_ - first);
      const std::size_t begin = next;
      while (next < support_.size() && support_[next].first < first + count) ++next;
      f(first, count, begin, next);
    }
  };
  over_blocks([&](std::int64_t first, std::int64_t count, std::size_t begin, std::size_t end) {
    tail_.anchor = std::max(tail_.anchor, Loops::template largest<C>(masked_block(first, count, begin, end), count));
  });
  sums_.student.anchor = tail_.anchor;
  over_blocks([&](std::int64_t first, std::int64_t count, std::size_t begin, std::size_t end) {
    tail_.sum += masked_sum(first, count, begin, end);
  });
  sums_.student = side;
}

template <class Loops, class C, class T>
template <class Loss, class O>
void RowWalker<Loops, C, T>::support_part(const Loss& loss, double term_weight, O* out, const C* add,
                                          RowResult& result) {
  const double temperature = temperature_of(loss);
  gather_support();
  support_sweep(temperature);
  SupportPoint point{support_log_t_, support_log_s_, at_least_lowest(static_cast<double>(task_.support_log_tail[r_])),
                     log_tail_s_, support_derivative_};
  result.value += term_weight * factor_of(loss) * loss.on_support(point);
  if (task_.metrics) {
    RowMetrics& m = result.metrics;
    m.support_weight = 1;
    m.teacher_support_mass = 0;
    for (const double x : support_log_t_) m.teacher_support_mass += std::exp(x);
    m.student_support_mass = -std::expm1(log_tail_s_);
    m.tail_loss += term_weight * factor_of(loss) * point.tail_value;
  }
  if (out == nullptr) return;
  // dL/dz_j = d_j - p_j S on the support and q_j (d_tail - r_s S) outside, S the sum of all derivatives, r_s the
  // student's mass outside and q_j = p_j / r_s the share of an entry in it.
  double sum = point.tail_derivative;
  for (const double d : support_derivative_) sum += d;
  if (point.closed) sum = 0;
  RowConstants<C> c = constants();
  if (tail_.sum > 0) {
    c.student = side_constants(tail_, kept_s_);
    c.subtract = static_cast<C>(std::exp(log_tail_s_) * sum - point.tail_derivative);
  }
  const double scale = task_.scale * weight_ * term_weight * factor_of(loss) / temperature;
  c.scale = static_cast<C>(scale);
  for (std::size_t k = 0; k < support_.size(); ++k) {  // `add` may be `out`: taken before the sweep
    double& d = support_derivative_[k];
    d = scale * (d - support_p_s_[k] * sum) + (add == nullptr ? 0.0 : static_cast<double>(add[support_[k].first]));
  }
  Loops::template probabilities<C>(c, student_, n_, out, add);
  for (std::size_t k = 0; k < support_.size(); ++k)
    out[support_[k].first] = static_cast<O>(static_cast<C>(support_derivative_[k]));
}

}  // namespace detail

template <class T>
requires(std::is_same_v<T, float> || std::is_same_v<T, double> ||
         std::is_same_v<T, bf16>) void RowKernels<Cpu, T>::modify_logits(const T* bias, T scale, float softcap,
                                                                         std::int64_t rows, std::int64_t columns,
                                                                         T* z) {
  using C = accumulate_t<T>;
  if (bias == nullptr && !(softcap > 0)) return;
  const C cap = static_cast<C>(softcap), factor = static_cast<C>(scale);
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

#endif
