// SPDX-License-Identifier: Apache-2.0
// Counts how the experts of mixtures of experts were used in one step. A training pass can also follow recorded
// routing: it then sends each token to the experts that a record names.
#ifndef KDLIB_TRAIN_EXPERT_USE_HPP
#define KDLIB_TRAIN_EXPERT_USE_HPP

#include <array>
#include <cstdint>
#include <utility>
#include <vector>

#include "kdlib/tensor/pending_routing.hpp"
#include "kdlib/tensor/token_batch.hpp"

KDLIB_NAMESPACE_BEGIN

/// The number of tokens that were sent to each expert of each mixture, summed over the training passes of a step. All
/// tokens count, those of prompts too.
struct ExpertUse {
  std::vector<std::vector<std::int64_t>> counts;  // [mixtures][experts]
  double balance = 0, z = 0;                      // RouterReport of the passes, weighted by their share of the step
  bool regularised = false;                       // true if a router policy is set, so that balance and z are known

  bool empty() const { return counts.empty(); }
  void add(const RoutingRecord& record, std::int64_t experts);
  void add(const ExpertUse& other);
  /// Returns the mean over the mixtures of -sum share ln(share) / ln(experts): 1 if all experts are used equally, 0 if
  /// one expert takes all tokens.
  double entropy() const;
  /// Returns the largest share of one expert in any mixture; 1 / experts if all experts are used equally.
  double max_share() const;
  /// Returns a histogram of all experts by their load = share * experts, which is 1 if all experts are used equally.
  /// The six numbers are the fractions of experts with load 0, up to 1/2, up to 1, up to 2, up to 4, and above 4.
  std::array<double, 6> loads() const;
  static constexpr std::array<const char*, 6> load_names = {"idle",      "load_to_half", "load_to_1",
                                                            "load_to_2", "load_to_4",    "load_above_4"};
};

/// A student with mixtures of experts that can record its routing and follow a recorded one.
template <class M>
concept RoutedModel = requires(M& model, RoutingRecord* record, const RoutingRecord* replay) {
  model.set_routing(record, replay);
  { model.experts() } -> std::convertible_to<std::int64_t>;
};
/// A RoutedModel whose records stay on its device until they are read (Decoder).
template <class M>
concept PendingRoutedModel = RoutedModel<M> &&
    requires(M& model, PendingRouting<typename M::device_type>* record, const RoutingRecord* replay) {
  model.set_pending_routing(record, replay);
  model.pending_router_totals().here.balance();
  model.router_policy().balance;
};

/// What one pass adds to the ExpertUse of a step. The numbers stay on the device until read() and a wait.
template <class D>
class PendingUse {
 public:
  /// Stores the result of a pass. `share` is the pass's part of the step, 0 to 1; `regularised` says that a router
  /// policy is set, so that the totals count.
  void put(std::int64_t experts, double share, bool regularised, PendingRouterTotals<D> totals) {
    experts_ = experts, share_ = share, regularised_ = regularised, totals_ = std::move(totals);
  }
  /// Stores the result of a pass whose counts are already on the host.
  void put(ExpertUse use) { counted_ = std::move(use); }
  PendingRouting<D>& routing() { return routing_; }
  void read(HostReads<D>& reads) { routing_.read(reads), totals_.read(reads); }
  /// Adds the numbers to `use`. May be called after the wait for what read() has queued.
  void add_to(ExpertUse& use) const;

 private:
  std::int64_t experts_ = 0;
  double share_ = 0;
  bool regularised_ = false;
  PendingRouting<D> routing_;
  PendingRouterTotals<D> totals_;
  ExpertUse counted_;
};

/// The scope of one training pass (forward and backward). The pass's choices of experts are counted. If `replay` is
/// true and the batch carries recorded routing, the pass follows this routing; text that no model wrote carries none.
template <class Student>
class RoutedPass {
  using D = typename Student::device_type;

 public:
  /// `use` must live until the pass has ended. ConfigError: `replay` is true, but the model has no mixtures.
  RoutedPass(Student& student, const TokenBatch& batch, bool replay, PendingUse<D>& use);
  RoutedPass(const RoutedPass&) = delete;
  RoutedPass& operator=(const RoutedPass&) = delete;
  ~RoutedPass();

  /// Counts the choices; to be called after the forward pass. `share` is the batch's part of the step, 0 to 1.
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
