// SPDX-License-Identifier: Apache-2.0
// One step that several ranks share: which rank forms which gradients, what the ranks exchange first, and how the
// gradients are added. A slice is one micro-batch of the step.
#ifndef KDLIB_TRAIN_RANKED_STEP_HPP
#define KDLIB_TRAIN_RANKED_STEP_HPP

#include <optional>
#include <vector>

#include "kdlib/train/gradient_step.hpp"
#include "kdlib/train/ranks.hpp"
#include "kdlib/train/reduce.hpp"
#include "kdlib/train/spans.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// What each rank tells the others about its part of a step. `tokens` is the number of tokens in its batches.
struct RankTimes {
  double source_seconds = 0, gradient_seconds = 0, tokens = 0;
};

/// The sums over all slices, added in the order of slices, and the times of every rank.
struct RankedSums {
  StepSums sums;
  std::vector<RankTimes> ranks;
};

/// Adds the gradients of one rank's slices and forms the sum over all ranks, for the parameters of one run.
template <class T, class D>
class RankedStep {
  using A = accumulate_t<T>;

 public:
  /// ConfigError: there are more ranks than slices.
  RankedStep(const RankSettings& settings, std::int64_t slices, std::vector<Parameter<T, D>*> trained);

  AnyCommunicator& communicator() { return communicator_; }
  bool owns(std::int64_t slice) const { return slice >= begin_ && slice < end_; }
  std::int64_t first_slice() const { return begin_; }
  std::int64_t own_slices() const { return end_ - begin_; }

  /// `mine` holds `width` numbers for each slice of this rank. Returns the numbers of all slices in order. Every rank
  /// must call the function.
  std::vector<double> gather_slices(std::span<const double> mine, std::int64_t width);

  /// Takes the gradient of a slice; to be called after the slice's backward pass. Without the tree (Reduction::fast)
  /// the gradients stay in the parameters.
  void take_slice();
  /// Adds the gradients of all ranks, writes the sum into the gradients of the parameters and returns the norm of the
  /// sum.
  double reduce();
  bool tree() const { return tree_; }

  RankedSums gather_sums(const std::vector<StepSums>& mine, const RankTimes& times);

 private:
  void collect();
  void put_back(std::span<const A> values);

  AnyCommunicator communicator_;
  bool tree_;
  std::int64_t slices_, begin_, end_;
  std::vector<Parameter<T, D>*> trained_;
  std::vector<A> flat_;
  TreeSum<A> sum_;
};

/// Throws ConfigError, naming the key, both values and the rank, if a rank has other settings than the first rank.
void check_equal_ranks(AnyCommunicator& communicator, const SettingsList& mine);

}  // namespace detail
KDLIB_NAMESPACE_END

#include "kdlib/train/ranked_step_inl.hpp"
#if KDLIB_HEADER_ONLY
#include "kdlib/train/ranked_sums_inl.hpp"
#endif

#endif
