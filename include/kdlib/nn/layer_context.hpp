// SPDX-License-Identifier: Apache-2.0
// What the layers of one forward pass share: where tokens stand, rotary angles, the cache, and what routers record.
#ifndef KDLIB_NN_LAYER_CONTEXT_HPP
#define KDLIB_NN_LAYER_CONTEXT_HPP

#include "kdlib/autograd/experts.hpp"
#include "kdlib/tensor/routing_record.hpp"

KDLIB_NAMESPACE_BEGIN

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

KDLIB_NAMESPACE_END

#endif
