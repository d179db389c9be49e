// SPDX-License-Identifier: Apache-2.0
// How the experts of a mixture were used in one step, and the passes that count it and follow recorded routing.
#ifndef KDLIB_TRAIN_EXPERT_USE_HPP
#define KDLIB_TRAIN_EXPERT_USE_HPP

#include <array>
#include <cstdint>
#include <utility>
#include <vector>

#include "kdlib/tensor/pending_routing.hpp"
#include "kdlib/tensor/token_batch.hpp"

KDLIB_NAMESPACE_BEGIN

/// Choices by mixture and expert, summed over the training passes of a step (every token of them, prompts too).
struct ExpertUse {
  std::vector<std::vector<std::int64_t>> counts;  // [mixtures][experts]
  double balance = 0, z = 0;                      // RouterReport of the passes, weighted by their share of the step
  bool regularised = false;                       // a router policy is set, so that the two are known

  bool empty() const { return counts.empty(); }
  void add(const RoutingRecord& record, std::int64_t experts);
  void add(const ExpertUse& other);
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
/// One whose records stay on its device until they are read (Decoder).
template <class M>
concept PendingRoutedModel = RoutedModel<M> &&
    requires(M& model, PendingRouting<typename M::device_type>* record, const RoutingRecord* replay) {
  model.set_pending_routing(record, replay);
  model.pending_router_totals().here.balance();
  model.router_policy().balance;
};

/// What one pass adds to the ExpertUse of a step, on the device until it is read.
template <class D>
class PendingUse {
 public:
  /// Of a pass that makes `share` of its step; `regularised`: the totals count.
  void put(std::int64_t experts, double share, bool regularised, PendingRouterTotals<D> totals) {
    experts_ = experts, share_ = share, regularised_ = regularised, totals_ = std::move(totals);
  }
  /// A pass whose choices are on the host already.
  void put(ExpertUse use) { counted_ = std::move(use); }
  PendingRouting<D>& routing() { return routing_; }
  void read(HostReads<D>& reads) { routing_.read(reads), totals_.read(reads); }
  /// Behind the wait.
  void add_to(ExpertUse& use) const;

 private:
  std::int64_t experts_ = 0;
  double share_ = 0;
  bool regularised_ = false;
  PendingRouting<D> routing_;
  PendingRouterTotals<D> totals_;
  ExpertUse counted_;
};

/// One training pass (forward and backward): its choices are counted, and the batch's routing is followed where
/// `replay` is set and it has one (given text has none).
template <class Student>
class RoutedPass {
  using D = typename Student::device_type;

 public:
  /// ConfigError: `replay`, but the model has no mixtures. `use` stays until the pass has ended.
  RoutedPass(Student& student, const TokenBatch& batch, bool replay, PendingUse<D>& use);
  RoutedPass(const RoutedPass&) = delete;
  RoutedPass& operator=(const RoutedPass&) = delete;
  ~RoutedPass();

  /// After the forward pass; `share`: the batch's part of the step.
  void count(double share);

 private:
  Student& student_;
  PendingUse<D>& use_;
  std::int64_t experts_ = 0;
  RoutingRecord record_;
};

KDLIB_NAMESPACE_END

#include "kdlib/train/expert_use_inl.hpp"
#if KDLIB_HEADER_ONLY
#include "kdlib/train/expert_loads_inl.hpp"
#endif

#endif
