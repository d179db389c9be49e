// SPDX-License-Identifier: Apache-2.0
// The choices of the routers in forward passes, and the sums of the routers, while both are still on the device.
#ifndef KDLIB_TENSOR_PENDING_ROUTING_HPP
#define KDLIB_TENSOR_PENDING_ROUTING_HPP

#include <utility>
#include <vector>

#include "kdlib/tensor/host_reads.hpp"
#include "kdlib/tensor/routing_record.hpp"
#include "kdlib/tensor/tensor.hpp"

KDLIB_NAMESPACE_BEGIN

/// The choices of one or several passes, in the order of the passes. read() adds them to a list of arrays that the host
/// reads together; after the wait for that list, passes() returns them.
template <class D>
class PendingRouting {
 public:
  /// Adds one pass: chosen [mixtures] of [N, K]. The memory is shared, not copied.
  void put(std::vector<Tensor<std::int32_t, D>> chosen) {
    if (!chosen.empty()) there_.push_back(std::move(chosen));
  }
  bool empty() const { return there_.empty(); }
  /// Returns the choices [mixtures] of [N, K] of the pass that was added last.
  const std::vector<Tensor<std::int32_t, D>>& last() const { return there_.back(); }

  void read(HostReads<D>& reads) {
    records_.assign(there_.size(), RoutingRecord());
    for (std::size_t p = 0; p < there_.size(); ++p) {
      RoutingRecord& record = records_[p];
      record.tokens = there_[p][0][0], record.active = there_[p][0][1];
      for (const Tensor<std::int32_t, D>& ids : there_[p]) {
        record.ids.emplace_back(static_cast<std::size_t>(ids.count()));
        reads.add(ids.data(), ids.count(), record.ids.back().data());
      }
    }
  }
  /// Returns the choices of each pass. Call this after the wait.
  const std::vector<RoutingRecord>& passes() const { return records_; }

 private:
  std::vector<std::vector<Tensor<std::int32_t, D>>> there_;
  std::vector<RoutingRecord> records_;
};

/// Totals of the routers over one pass: the sums of RouterSums (autograd/experts.hpp) on the host.
struct RouterTotals {
  std::int64_t tokens = 0;    // of all layers together
  std::vector<double> table;  // counts [E], probabilities [E], squared log-sum-exps; empty if nothing was summed

  /// E * the sum over experts of (count / tokens) * (probability / tokens).
  double balance() const;
  /// The mean squared log-sum-exp of the logits; 0 if nothing was summed.
  double z() const;
};

/// RouterTotals that are still on the device. read() adds them to a list of arrays that the host reads together; after
/// the wait for that list, `here` holds them.
template <class D>
struct PendingRouterTotals {
  Tensor<double, D> there;  // [2 E + 1] or empty
  RouterTotals here;

  void read(HostReads<D>& reads) {
    here.table.resize(static_cast<std::size_t>(there.count()));
    reads.add(there.data(), there.count(), here.table.data());
  }
};

inline double RouterTotals::balance() const {
  const std::size_t experts = table.size() / 2;
  const double n = static_cast<double>(tokens);
  double sum = 0;
  for (std::size_t e = 0; e < experts; ++e) sum += table[e] / n * (table[experts + e] / n);
  return static_cast<double>(experts) * sum;
}

inline double RouterTotals::z() const {
  return tokens > 0 && !table.empty() ? table.back() / static_cast<double>(tokens) : 0;
}

KDLIB_NAMESPACE_END

#endif
