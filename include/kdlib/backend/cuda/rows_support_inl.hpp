// SPDX-License-Identifier: Apache-2.0
// Losses on the teacher's top-k in the CUDA row engine: the support is gathered, sorted and merged in shared memory,
// its masses are reduced in the fixed tree, and its entries of the gradient are formed in double before the last sweep.
#ifndef KDLIB_BACKEND_CUDA_ROWS_SUPPORT_INL_HPP
#define KDLIB_BACKEND_CUDA_ROWS_SUPPORT_INL_HPP

#include "kdlib/backend/cuda/rows_body_inl.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Ids of -1 are left out; an id that comes twice has the mass of both. The host has not seen the ids: those outside
/// the vocabulary are left out, too, and the row's result names the first.
template <class Block, class T>
KDLIB_HOST_DEVICE void BlockRow<Block, T>::gather_support() {
  const int size = static_cast<int>(task_.support_size), threads = static_cast<int>(block_.size()),
            thread = static_cast<int>(block_.thread());
  const std::int32_t* ids = task_.support_ids + r_ * task_.support_size;
  const T* log_probs = task_.support_log_probs + r_ * task_.support_size;
  const BlockSupport<Block>& support = shared_.support;
  const auto& first = support.derivative;  // 1 where an id comes for the first time
  BlockTriple mine{0, 0, 0};               // first ones, and ids outside of [-1, n)
  for (int k = thread; k < size; k += threads) {
    bool is_first = ids[k] >= 0 && ids[k] < n_;
    mine.b += ids[k] < -1 || ids[k] >= n_ ? 1 : 0;
    for (int j = 0; j < k; ++j) is_first = is_first && ids[j] != ids[k];
    first[k] = is_first ? 1 : 0;
    mine.a += is_first ? 1 : 0;
  }
  const BlockTriple all = team_.add_up(mine);  // its barriers let every thread see `first`
  support_count_ = static_cast<int>(all.a);
  if (all.b > 0 && leader())
    for (int k = size - 1; k >= 0; --k)
      if (ids[k] < -1 || ids[k] >= n_) result_->wrong_id = ids[k];
  for (int k = thread; k < size; k += threads) {
    if (first[k] == 0) continue;
    int rank = 0;
    double log_p = at_least_lowest_log_prob(static_cast<double>(static_cast<C>(log_probs[k])));
    for (int j = 0; j < size; ++j) {
      rank += first[j] != 0 && ids[j] < ids[k] ? 1 : 0;
      if (j > k && ids[j] == ids[k])
        log_p = log_of_both(log_p, at_least_lowest_log_prob(static_cast<double>(static_cast<C>(log_probs[j]))));
    }
    support.ids[rank] = ids[k];
    support.log_t[rank] = log_p;
    support.gradient[rank] = 0;
  }
  block_.barrier();
}

/// Fills the leaf's value and tail, adds to the support's gradient and returns what is taken off elsewhere, by an
/// entry's share. dL/dz_j is d_j - p_j S on the support and q_j (d_tail - r_s S) outside, S the sum of all derivatives,
/// r_s the student's mass outside and q_j = p_j / r_s the share of an entry in it.
template <class Block, class T>
template <class Loss>
KDLIB_HOST_DEVICE double BlockRow<Block, T>::support_terms(const Loss& loss, int leaf_index) {
  const BlockSupport<Block>& support = shared_.support;
  const BlockLeaf at_start = shared_.leaves.read(leaf_index);
  const int threads = static_cast<int>(block_.size()), thread = static_cast<int>(block_.thread());
  const double inverse = 1 / at_start.at.row.temperature;
  for (int k = thread; k < support_count_; k += threads) {
    support.log_s[k] = at_least_lowest_log_prob((support_logit(k) - at_start.at.top_s) * inverse) - at_start.at.log_s;
    support.derivative[k] = 0;
  }
  block_.barrier();
  if (leader()) {  // the loss sees the whole support at once, in double: K numbers
    const auto n = static_cast<std::size_t>(support_count_);
    BlockLeaf& leaf = shared_.leaves.write(leaf_index);
    SupportPoint point{{support.log_t.read(0, support_count_), n},
                       {support.log_s.read(0, support_count_), n},
                       at_least_lowest_log_prob(static_cast<double>(static_cast<C>(task_.support_log_tail[r_]))),
                       leaf.at.log_tail_s,
                       {support.derivative.write(0, support_count_), n}};
    leaf.value += loss.on_support(point);
    leaf.tail_derivative = point.tail_derivative;
    leaf.closed = point.closed;
    if (task_.metrics) {
      RowMetrics& m = result_->metrics;
      m.support_weight = 1;
      m.teacher_support_mass = 0;
      for (int k = 0; k < support_count_; ++k) m.teacher_support_mass += exp(support.log_t.read(k));
      m.student_support_mass = -::expm1(leaf.at.log_tail_s);
      m.tail_loss += leaf.weight * point.tail_value;
    }
  }
  block_.barrier();
  const BlockLeaf leaf = shared_.leaves.read(leaf_index);
  double mine = 0;
  for (int k = thread; k < support_count_; k += threads) mine += support.derivative.read(k);
  double sum = team_.add_up(mine) + leaf.tail_derivative;
  if (leaf.closed) sum = 0;
  for (int k = thread; k < support_count_; k += threads)
    support.gradient[k] += leaf.scale * (support.derivative.read(k) - exp(support.log_s.read(k)) * sum);
  block_.barrier();
  return leaf.at.log_tail_s > -1e6 ? exp(leaf.at.log_tail_s) * sum - leaf.tail_derivative : 0;
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
