// SPDX-License-Identifier: Apache-2.0
// One row of the CUDA row engine, as one thread block walks it (see block.hpp).
//
// Sweeps over the row: one online sweep a temperature for the log-sum-exps and moments (metrics share the one at T =
// 1); one more for each loss whose sum of h is not known from them; a last one that forms all terms' gradients, adds
// them in C and writes them once, in place.
#ifndef KDLIB_BACKEND_CUDA_ROWS_BODY_INL_HPP
#define KDLIB_BACKEND_CUDA_ROWS_BODY_INL_HPP

#include "kdlib/backend/cuda/rows_block_inl.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

template <class Block, class T>
class BlockRow {
 public:
  using C = accumulate_t<T>;

  /// `leaves`: leaf_count of the loss, and one for the statistics of the metrics.
  KDLIB_HOST_DEVICE BlockRow(Block& block, const RowTask<T>& task, std::int64_t r, std::int64_t leaves)
      : block_(block),
        shared_(BlockShared<Block>::of(block, leaves, task.support_size)),
        team_(block),
        task_(task),
        r_(r),
        n_(task.columns) {
    s_ = task.student + r * task.student_stride;
    t_ = task.teacher == nullptr ? nullptr : task.teacher + r * task.teacher_stride;
    g_ = task.gradient == nullptr ? nullptr : task.gradient + r * task.gradient_stride;
  }

  template <class Loss>
  KDLIB_HOST_DEVICE void run(const Loss& loss, RowResult& result);

 private:
  static constexpr double lowest = -3.4e38;
  KDLIB_HOST_DEVICE bool leader() const { return block_.thread() == 0; }

  // rows_statistics_inl.hpp
  /// The largest of the row's first entries, those of the support left out.
  template <bool Support>
  KDLIB_HOST_DEVICE BlockAnchors first_anchors();
  /// One sweep: sums at a temperature, and the five largest. Student entries of the support are left out and added
  /// afterwards.
  template <bool Teacher, bool Sums, bool Support, bool Tops>
  KDLIB_HOST_DEVICE BlockStatistics statistics(double temperature, BlockTops<C>* tops, double* above_label);
  KDLIB_HOST_DEVICE C raise(BlockState& mine, BlockSide BlockState::*side, BlockSide BlockState::*other, C top,
                            const C (&z)[block_width<T>], unsigned counted, double inverse) const;
  /// A thread's sums and largest entries; counts the entries above the label's logit in `above`.
  template <bool Teacher, bool Sums, bool Support, bool Tops>
  KDLIB_HOST_DEVICE BlockState sweep(double temperature, const BlockAnchors& anchors, BlockTops<C>& best, int& above);
  template <bool Sums>
  KDLIB_HOST_DEVICE void push(BlockSide& side, const C (&x)[block_width<T>], const C (&y)[block_width<T>],
                              unsigned counted, C inverse) const;
  template <bool Sums>
  KDLIB_HOST_DEVICE double add_support(BlockSide& all, double inverse);
  KDLIB_HOST_DEVICE BlockStatistics from_sides(const BlockSide& s, const BlockSide& t, bool teacher, bool sums,
                                               double temperature) const;
  template <class Loss>
  KDLIB_HOST_DEVICE void metrics(RowMetrics& out);

  // rows_head_inl.hpp
  KDLIB_HOST_DEVICE BlockTriple head_sums(const BlockConstants<double>& c, std::uint64_t least);
  KDLIB_HOST_DEVICE double head_share(double head_mass, const BlockLeaf& leaf);
  KDLIB_HOST_DEVICE double jensen_shannon(const BlockStatistics& at);

  // rows_support_inl.hpp
  KDLIB_HOST_DEVICE void gather_support();
  KDLIB_HOST_DEVICE double support_logit(int k) const {
    return static_cast<double>(static_cast<C>(s_[shared_.support.ids.read(k)]));
  }
  template <class Loss>
  KDLIB_HOST_DEVICE double support_terms(const Loss& loss, int leaf_index);

  // rows_terms_inl.hpp
  /// Statistics, label, normaliser and support parts and, where it is not known, the sum of h of every leaf.
  template <class Whole, class Loss>
  KDLIB_HOST_DEVICE void prepare(const Loss& loss, double weight, int& index);
  template <class Loss>
  KDLIB_HOST_DEVICE void fill_leaf(const Loss& loss, double weight, const BlockStatistics& at, BlockLeaf& leaf);
  KDLIB_HOST_DEVICE LabelPoint label_point(const BlockStatistics& at) const;
  KDLIB_HOST_DEVICE double log_prob_of(T z, double top, double log_sum, double temperature) const {
    return at_least_lowest_log_prob((static_cast<double>(static_cast<C>(z)) - top) / temperature) - log_sum;
  }
  template <bool Teacher, class X>
  KDLIB_HOST_DEVICE Entry<X> entry(C s, C t, const BlockConstants<X>& c) const;
  template <class Loss>
  KDLIB_HOST_DEVICE double derivative_sweep(const Loss& loss, const BlockLeaf& leaf);
  template <bool Teacher, class X, class Loss>
  KDLIB_HOST_DEVICE void add_terms(const Loss& loss, const BlockConstants<X>* constants, int& index, C s, C t,
                                   bool is_label, bool on_support, Entry<X>& x, X& value, X& gradient) const;
  template <class Loss>
  KDLIB_HOST_DEVICE double last_sweep(const Loss& loss);
  template <bool Write, class Loss>
  KDLIB_HOST_DEVICE double terms_sweep(const Loss& loss);
  template <class Loss>
  KDLIB_HOST_DEVICE C special_entry(const Loss& loss, std::int64_t i, bool is_label, bool on_support, int slot_begin,
                                    int slot_end, double& value) const;

  Block& block_;
  BlockShared<Block> shared_;
  BlockTeam<Block> team_;
  const RowTask<T>& task_;
  std::int64_t r_, n_;
  const T* s_ = nullptr;
  const T* t_ = nullptr;
  T* g_ = nullptr;
  RowResult* result_ = nullptr;  // written by the leader alone
  double weight_ = 1;
  int support_count_ = 0;
  bool known_ = false;  // the slot behind the leaves holds the statistics at T = 1
};

template <class Loss>
constexpr bool reads_teacher_rows = reads_teacher<Loss> || reads_teacher_label<Loss>;

template <class Block, class T>
template <class Loss>
KDLIB_HOST_DEVICE void BlockRow<Block, T>::run(const Loss& loss, RowResult& result) {
  weight_ = task_.weights == nullptr ? 1.0 : static_cast<double>(task_.weights[r_]);
  result_ = &result;
  if (leader()) result = RowResult{};
  if (weight_ == 0) {
    if (g_ != nullptr)
      for (std::int64_t i = block_.thread(); i < n_; i += block_.size()) g_[i] = T(0.0f);
    return;
  }
  if (!task_.metrics && !reads_teacher_rows<Loss>) t_ = nullptr;
  if constexpr (reads_support<Loss>) gather_support();
  if (task_.metrics) metrics<Loss>(result.metrics);
  if (task_.metrics && t_ != nullptr) {
    bool js = task_.jensen_shannon;
    if constexpr (requires { loss.js_factor(); }) js = js || loss.js_factor() != 0;
    if (js) {
      block_.barrier();
      const double value = jensen_shannon(shared_.leaves.read(leaf_count<Loss>).at);
      if (leader()) result.metrics.js_weight = 1, result.metrics.js = value;
    }
  }
  int index = 0;
  prepare<Loss>(loss, 1.0, index);
  if (leader())  // a sum that is known at run time may have fewer; last_sweep() waits before it reads them
    for (; index < leaf_count<Loss>; ++index) shared_.leaves.write(index) = BlockLeaf{};
  const double value = last_sweep(loss);
  if (leader()) result.value = value;
}

/// The row engine's kernel: a block a row.
template <class Loss, class T>
struct RowKernel {
  static constexpr int threads = 256;
  static constexpr std::int64_t leaves = leaf_count<Loss> + 1;
  Loss loss;
  RowTask<T> task;
  RowResult* results;

  std::int64_t shared_bytes() const { return block_shared_bytes(leaves, task.support_size); }
  /// What of the arguments may be an address; a loss has none.
  template <class F>
  void each_argument(F f) const {
    f(task), f(results);
  }
  template <class Block>
  KDLIB_HOST_DEVICE void operator()(Block& block) const {
    BlockRow<Block, T> row(block, task, block.block(), leaves);
    row.run(loss, results[block.block()]);
  }
};

}  // namespace detail
KDLIB_NAMESPACE_END

#include "kdlib/backend/cuda/rows_head_inl.hpp"
#include "kdlib/backend/cuda/rows_statistics_inl.hpp"
#include "kdlib/backend/cuda/rows_support_inl.hpp"
#include "kdlib/backend/cuda/rows_terms_inl.hpp"

#endif
