// SPDX-License-Identifier: Apache-2.0
// What the layers of one forward pass share: positions of the tokens, rotary angles, the cache, and the record of
// routers.
#ifndef KDLIB_NN_LAYER_CONTEXT_HPP
#define KDLIB_NN_LAYER_CONTEXT_HPP

#include "kdlib/autograd/experts.hpp"
#include "kdlib/tensor/pending_routing.hpp"

KDLIB_NAMESPACE_BEGIN

template <class D, class T>
class Linear;

/// Is given the input of each linear map while a model runs forward. Calibration of roundings and adapters uses this.
template <class D, class T>
class LinearObserver {
 public:
  virtual ~LinearObserver() = default;
  /// `map` is about to multiply x [N, in]. Maps that read the same x are announced one after the other.
  virtual void observe(const Linear<D, T>& map, const Tensor<T, D>& x) = 0;
};

/// If `cache` is set, the batch continues the sequences in the slots, and nothing is recorded on the tape.
template <class D, class T>
struct LayerContext {
  TokenLayout<D> layout;
  RopeTable<T, D> rope;
  RopeTable<T, D> sliding_rope;  // for layers with their own angles (Gemma 3), else empty
  double norm_epsilon = 1e-6;
  Tensor<T, D> norm_ones;  // ones, if norms multiply by 1 + weight (Gemma); else empty: rms_norm()
  /// LoRA is used.
  bool adapter = true;
  CacheRanges<T>* cache = nullptr;  // keys and values of the running layer
  RouterSums<D>* sums = nullptr;    // set in training passes: terms of the routers
  /// If set, receives [mixtures] of [N, K]: the experts that the routers choose. They stay on the device until the pass
  /// has ended.
  std::vector<Tensor<std::int32_t, D>>* chosen = nullptr;
  const RoutingRecord* replay = nullptr;     // if set, the routers follow these choices
  LinearObserver<D, T>* observer = nullptr;  // in forward passes only

  void observe(const Linear<D, T>& map, const Tensor<T, D>& x) const {
    if (observer != nullptr) observer->observe(map, x);
  }
};

KDLIB_NAMESPACE_END

#endif
