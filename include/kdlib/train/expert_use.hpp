// SPDX-License-Identifier: Apache-2.0
// How the experts of a mixture were used in one step, and the passes that count it and follow recorded routing.
#ifndef KDLIB_TRAIN_EXPERT_USE_HPP
#define KDLIB_TRAIN_EXPERT_USE_HPP

#include <array>
#include <cstdint>
#include <vector>

#include "kdlib/tensor/token_batch.hpp"

KDLIB_NAMESPACE_BEGIN

/// Choices by mixture and expert, summed over the training passes of a step (every token of them, prompts too).
struct ExpertUse {
  std::vector<std::vector<std::int64_t>> counts;  // [mixtures][experts]
  double balance = 0, z = 0;                      // RouterReport of the passes, weighted by their share of the step
  bool regularised = false;                       // a router policy is set, so that the two are known

  bool empty() const { return counts.empty(); }
  void add(const RoutingRecord& record, std::int64_t experts);
  /// Mean over the mixtures of -sum share ln(share) / ln(experts): 1 when even, 0 when one expert takes all.
  double entropy() const;
  /// Largest share of one expert in any mixture: 1 / experts when even.
  double max_share() const;
  /// Histogram of all experts by load = share * experts (1 when even): the parts that have load 0, up to 1/2, up to 1,
  /// up to 2, up to 4, above.
  std::array<double, 6> loads() const;
  static constexpr std::array<const char*, 6> load_names = {"idle",      "load_to_half", "load_to_1",
                                                            "load_to_2", "load_to_4",    "load_above_4"};
};

/// A student with mixtures that can record and follow routing.
template <class M>
concept RoutedModel = requires(M& model, RoutingRecord* record, const RoutingRecord* replay) {
  model.set_routing(record, replay);
  { model.experts() } -> std::convertible_to<std::int64_t>;
};

/// One training pass (forward and backward): its choices are counted, and the batch's routing is followed where
/// `replay` is set and it has one (given text has none).
template <class Student>
class RoutedPass {
 public:
  /// ConfigError: `replay`, but the model has no mixtures.
  RoutedPass(Student& student, const TokenBatch& batch, bool replay);
  RoutedPass(const RoutedPass&) = delete;
  RoutedPass& operator=(const RoutedPass&) = delete;
  ~RoutedPass();

  /// After the forward pass; `share`: the batch's part of the step.
  void count(ExpertUse& use, double share) const;

 private:
  Student& student_;
  std::int64_t experts_ = 0;
  RoutingRecord record_;
};

KDLIB_NAMESPACE_END

#include "kdlib/train/expert_use_inl.hpp"

#endif
