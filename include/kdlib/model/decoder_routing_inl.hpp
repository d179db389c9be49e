// SPDX-License-Identifier: Apache-2.0
// Bodies of decoder.hpp: what routers chose, and what regularises them.
#ifndef KDLIB_MODEL_DECODER_ROUTING_INL_HPP
#define KDLIB_MODEL_DECODER_ROUTING_INL_HPP

#include <utility>

#include "kdlib/model/decoder.hpp"

KDLIB_NAMESPACE_BEGIN

/// What the routers of the pass chose goes where it is recorded: to the host at once, or it stays on the device.
template <class D, class T>
void Decoder<D, T>::record_choices() {
  if (chosen_.empty()) return;
  PendingRouting<D> own;
  PendingRouting<D>& pending = pending_record_ != nullptr ? *pending_record_ : own;
  pending.put(std::exchange(chosen_, {}));
  if (record_ == nullptr) return;
  HostReads<D> reads;
  own.read(reads);
  reads.wait();
  *record_ = own.passes().front();
}

template <class D, class T>
RouterReport Decoder<D, T>::router_report() const {
  PendingRouterTotals<D> pending = pending_router_totals();
  HostReads<D> reads;
  pending.read(reads);
  reads.wait();
  return {pending.here.balance(), pending.here.z()};
}

template <class D, class T>
void Decoder<D, T>::set_router_policy(const RouterPolicy& policy) {
  require<ConfigError>(policy.balance >= 0 && policy.z >= 0, "[set_router_policy] weights must not be negative");
  require<ConfigError>(config_.mixtures() > 0 || (policy.balance == 0 && policy.z == 0),
                       "[set_router_policy] the model (", family_name(config_.family), ") has no routers");
  router_policy_ = policy;
}

template <class D, class T>
void Decoder<D, T>::set_routers_trainable(bool trainable) {
  for (const DecoderBlock<D, T>& b : blocks_)
    if (auto* mixture = dynamic_cast<ExpertFeedForward<D, T>*>(b.feed_forward.get())) {
      mixture->router().weight()->trainable = trainable;
      if (mixture->router().bias != nullptr) mixture->router().bias->trainable = trainable;
    }
}

KDLIB_NAMESPACE_END

#endif
