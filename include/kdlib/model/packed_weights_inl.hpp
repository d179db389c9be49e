// SPDX-License-Identifier: Apache-2.0
// Weights of a decoder that are no parameters: their list and their bytes.
#ifndef KDLIB_MODEL_PACKED_WEIGHTS_INL_HPP
#define KDLIB_MODEL_PACKED_WEIGHTS_INL_HPP

#include "kdlib/model/decoder.hpp"

KDLIB_NAMESPACE_BEGIN

template <class D, class T>
Var<T, D> Decoder<D, T>::embed(Tape<T, D>& tape, const TokenLayout<D>& layout) {
  return packed_embedding_ != nullptr ? embedding(tape, *packed_embedding_, layout)
                                      : embedding(tape, *embedding_, layout);
}

template <class D, class T>
std::vector<PackedWeight<D, T>> Decoder<D, T>::packed_weights() const {
  std::vector<PackedWeight<D, T>> list;
  const auto add = [&list](const std::string& name, Shape shape, const PackedMatrix<T, D>* p) {
    if (p != nullptr) list.push_back({name, shape, p});
  };
  const Shape table{config_.vocab_size, config_.hidden_size};
  add("model.embed_tokens.weight", table, packed_embedding_.get());
  for (const Linear<D, T>* l : linears()) add(l->path + ".weight", Shape{l->out, l->in}, l->packed.get());
  for (std::size_t i = 0; i < blocks_.size(); ++i) {
    const auto* mixture = dynamic_cast<const ExpertFeedForward<D, T>*>(blocks_[i].feed_forward.get());
    if (mixture == nullptr) continue;
    const std::string path = concat("model.layers.", i, ".mlp.experts.");
    const std::int64_t e = config_.moe.experts, inner = config_.moe.intermediate, h = config_.hidden_size;
    add(path + "gate_up_proj", Shape{e, 2 * inner, h}, mixture->packed_gate_up());
    add(path + "down_proj", Shape{e, h, inner}, mixture->packed_down());
  }
  add("lm_head.weight", table, packed_head_.get());
  return list;
}

template <class D, class T>
double weight_bytes(Decoder<D, T>& model) {
  std::int64_t bytes = 0;
  for (const Parameter<T, D>* p : model.parameters())
    if (!p->name.starts_with("base_model.")) bytes += p->value.bytes();
  for (const PackedWeight<D, T>& w : model.packed_weights()) bytes += w.matrix->bytes();
  return static_cast<double>(bytes);
}

KDLIB_NAMESPACE_END

#endif
