// SPDX-License-Identifier: Apache-2.0
// What the layers of one forward pass share: where tokens stand, rotary angles, the cache, and what routers record.
#ifndef KDLIB_NN_LAYER_CONTEXT_HPP
#define KDLIB_NN_LAYER_CONTEXT_HPP

#include "kdlib/autograd/experts.hpp"
#include "kdlib/tensor/pending_routing.hpp"

KDLIB_NAMESPACE_BEGIN

template <class D, class T>
class Linear;

/// Sees what enters linear maps while a model runs forward: calibration of roundings and adapters.
template <class D, class T>
class LinearObserver {
 public:
  virtual ~LinearObserver() = default;
  /// `map` is about to multiply x [N, in]. Maps that read the same x are announced one after the other.
  virtual void observe(const Linear<D, T>& map, const Tensor<T, D>& x) = 0;
};

/// With `cache` set the batch continues what its slots hold (nothing is recorded on the tape then).
template <class D, class T>
struct LayerContext {
  TokenLayout<D> layout;
  RopeTable<T, D> rope;
  RopeTable<T, D> sliding_rope;  // of layers with angles of their own (Gemma 3), else empty
  double norm_epsilon = 1e-6;
  Tensor<T, D> norm_ones;  // ones where norms multiply by 1 + weight (Gemma), else empty: rms_norm()
  bool adapter = true;
  CacheRanges<T>* cache = nullptr;  // keys and values of the layer that runs
  RouterSums<D>* sums = nullptr;    // training passes: regularisers of routers
  /// [mixtures] of [N, K], where set: the experts that routers choose. They stay on the device until the pass has
  /// ended.
  std::vector<Tensor<std::int32_t, D>>* chosen = nullptr;
  const RoutingRecord* replay = nullptr;     // read where set
  LinearObserver<D, T>* observer = nullptr;  // forward passes only

  void observe(const Linear<D, T>& map, const Tensor<T, D>& x) const {
    if (observer != nullptr) observer->observe(map, x);
  }
};

KDLIB_NAMESPACE_END

#endif
