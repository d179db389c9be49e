// SPDX-License-Identifier: Apache-2.0
// Bodies of materialise.hpp.
#ifndef KDLIB_MODEL_MATERIALISE_INL_HPP
#define KDLIB_MODEL_MATERIALISE_INL_HPP

#include "kdlib/core/stop.hpp"
#include "kdlib/model/materialise.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Fills gate_up [E, 2I, H] and down [E, H, I] of one layer.
template <class D, class T>
void materialise_layer(const SharedCoreExperts<D, T>& cores, Parameter<T, D>& gate_up, Parameter<T, D>& down) {
  const std::int64_t experts = down.value[0], one = down.value[1] * down.value[2];
  for (std::int64_t e = 0; e < experts; ++e) {
    check_stop();
    cores.gate.weight(e, gate_up.value.data() + 2 * e * one);
    cores.up.weight(e, gate_up.value.data() + (2 * e + 1) * one);
    cores.down.weight(e, down.value.data() + e * one);
  }
}

}  // namespace detail

template <class D, class T>
Decoder<D, T> materialise(Decoder<D, T>&& compressed) {
  DecoderConfig config = compressed.config();
  require<ConfigError>(config.mixtures() > 0 && config.moe.shares_cores(), "[materialise] the model (",
                       family_name(config.family), ") has no experts that share cores: it is plain already");
  require<ConfigError>(!compressed.has_adapter(), "[materialise] the model has an adapter; merge_adapter(model) first");
  require<ConfigError>(compressed.packed_weights().empty(),
                       "[materialise] weights of the model are codes or stay in their file; load it with decoded "
                       "weights");
  config.moe.core_form = CoreForm();
  config.moe.core_rank = 0;
  config.compression_json.clear();
  config.compression_by_key = false;
  Decoder<D, T> plain = Decoder<D, T>::without_values(config);
  for (Parameter<T, D>* p : plain.parameters()) {
    p->trainable = true;
    if (const Parameter<T, D>* same = compressed.find_parameter(p->name); same != nullptr) p->value = same->value;
    else p->value = Tensor<T, D>(p->value.shape());
  }
  for (std::size_t i = 0; i < plain.blocks().size(); ++i) {
    const auto* to = dynamic_cast<const ExpertFeedForward<D, T>*>(plain.blocks()[i].feed_forward.get());
    if (to == nullptr) continue;
    const auto& from = dynamic_cast<const ExpertFeedForward<D, T>&>(*compressed.blocks()[i].feed_forward);
    detail::materialise_layer(*from.cores(), *to->gate_up(), *to->down());
  }
  const std::int64_t real = compressed.head().real_vocabulary;
  if (real < config.vocab_size) plain.set_real_vocabulary(real);
  plain.set_source(compressed.source(), compressed.notes());
  plain.set_router_policy(compressed.router_policy());
  return plain;
}

KDLIB_NAMESPACE_END

#endif
