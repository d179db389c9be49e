// SPDX-License-Identifier: Apache-2.0
// One step of several ranks: who forms which gradients, what they agree on first, and how the parts become one.
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

/// What each rank tells of its part of a step.
struct RankTimes {
  double source_seconds = 0, gradient_seconds = 0, tokens = 0;
};

/// The sums of all slices in the order of slices, and every rank's times.
struct RankedSums {
  StepSums sums;
  std::vector<RankTimes> ranks;
};

/// The gradients of one rank's slices and their sum over all ranks, for the parameters of one run.
template <class T, class D>
class RankedStep {
  using A = accumulate_t<T>;

 public:
  /// ConfigError: more ranks than slices.
  RankedStep(const RankSettings& settings, std::int64_t slices, std::vector<Parameter<T, D>*> trained);

  AnyCommunicator& communicator() { return communicator_; }
  bool owns(std::int64_t slice) const { return slice >= begin_ && slice < end_; }
  std::int64_t first_slice() const { return begin_; }
  std::int64_t own_slices() const { return end_ - begin_; }

  /// `mine`: `width` numbers a slice of this rank. All slices' in order. Every rank calls it.
  std::vector<double> gather_slices(std::span<const double> mine, std::int64_t width);

  /// Behind the backward pass of a slice: takes its gradient. Without the tree gradients stay where they are.
  void take_slice();
  /// Adds the gradients of all ranks, puts the sum into every parameter and answers its norm.
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

/// ConfigError, naming the key, both values and the rank, where a rank has other settings than the first.
void check_equal_ranks(AnyCommunicator& communicator, const SettingsList& mine);

}  // namespace detail
KDLIB_NAMESPACE_END

#include "kdlib/train/ranked_step_inl.hpp"
#if KDLIB_HEADER_ONLY
#include "kdlib/train/ranked_sums_inl.hpp"
#endif

#endif
