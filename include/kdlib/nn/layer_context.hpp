// SPDX-License-Identifier: Apache-2.0
// What the layers of one forward pass share: where tokens stand, rotary angles, the cache, and what routers record.
#ifndef KDLIB_NN_LAYER_CONTEXT_HPP
#define KDLIB_NN_LAYER_CONTEXT_HPP

#include <vector>

#include "kdlib/autograd/experts.hpp"

KDLIB_NAMESPACE_BEGIN

/// The experts that each mixture chose for the tokens of one forward pass, in layer order (layers without a router are not counted).
/// Given back as `replay`, the next pass over the same tokens goes to the same experts; their weights follow the router as it is then.
struct RoutingRecord {
  std::int64_t tokens = 0;                        // N
  std::int64_t active = 0;                        // K
  std::vector<std::vector<std::int32_t>> ids;     // [mixtures][N * K], the strongest first
};

/// counts[mixture][expert]: how often a record chose each of `experts` experts. InputError: an id outside of [0, experts).
std::vector<std::vector<std::int64_t>> expert_histogram(const RoutingRecord& record, std::int64_t experts);

/// With `cache` set the batch continues what its slots hold (nothing is recorded on the tape then).
template <class D, class T>
struct LayerContext {
  TokenLayout<D> layout;
  RopeTable<T, D> rope;
  double norm_epsilon = 1e-6;
  bool adapter = true;
  CacheRanges<T>* cache = nullptr;        // keys and values of the layer that runs
  RouterSums* sums = nullptr;             // training passes: regularisers of routers
  RoutingRecord* record = nullptr;        // written where set
  const RoutingRecord* replay = nullptr;  // read where set
};

inline std::vector<std::vector<std::int64_t>> expert_histogram(const RoutingRecord& record, std::int64_t experts) {
  std::vector<std::vector<std::int64_t>> counts;
  for (const std::vector<std::int32_t>& ids : record.ids) {
    std::vector<std::int64_t>& row = counts.emplace_back(static_cast<std::size_t>(experts), 0);
    for (const std::int32_t id : ids) {
      require<InputError>(id >= 0 && id < experts, "[expert_histogram] expert ", id, " of ", experts);
      ++row[static_cast<std::size_t>(id)];
    }
  }
  return counts;
}

KDLIB_NAMESPACE_END

#endif
