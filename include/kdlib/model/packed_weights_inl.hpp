// SPDX-License-Identifier: Apache-2.0
// Weights of a decoder as files see them: which there are, which are no parameters, and how they become packed.
#ifndef KDLIB_MODEL_PACKED_WEIGHTS_INL_HPP
#define KDLIB_MODEL_PACKED_WEIGHTS_INL_HPP

#include <algorithm>
#include <cmath>

#include "kdlib/model/decoder.hpp"

KDLIB_NAMESPACE_BEGIN

template <class D, class T>
Var<T, D> Decoder<D, T>::embed(Tape<T, D>& tape, const TokenLayout<D>& layout) {
  Var<T, D> rows =
      packed_embedding_ != nullptr ? embedding(tape, *packed_embedding_, layout) : embedding(tape, *embedding_, layout);
  if (!config_.is_gemma()) return rows;
  return scaled(tape, std::move(rows), static_cast<T>(std::sqrt(static_cast<double>(config_.hidden_size))));
}

template <class D, class T>
std::vector<PackedWeight<D, T>> Decoder<D, T>::packed_weights() const {
  std::vector<PackedWeight<D, T>> list;
  const auto add = [&list](const std::string& name, Shape shape, const PackedMatrix<T, D>* p) {
    if (p != nullptr) list.push_back({name, shape, p});
  };
  const Shape table{config_.vocab_size, config_.hidden_size};
  add("model.embed_tokens.weight", table, packed_embedding_.get());
  for (const Linear<D, T>* l : linears()) add(l->path + ".weight", Shape{l->out, l->in}, l->packed().get());
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
std::vector<WeightSlot> Decoder<D, T>::weight_slots() {
  std::vector<std::string> packable = {"model.embed_tokens.weight", "lm_head.weight"};
  for (const Linear<D, T>* l : linears()) packable.push_back(l->path + ".weight");
  for (const DecoderBlock<D, T>& b : blocks_)
    if (const auto* mixture = dynamic_cast<const ExpertFeedForward<D, T>*>(b.feed_forward.get()))
      for (const Parameter<T, D>* p : {mixture->gate_up(), mixture->down()})
        if (p != nullptr) packable.push_back(p->name);
  std::sort(packable.begin(), packable.end());
  std::vector<WeightSlot> slots;
  for (const Parameter<T, D>* p : parameters())
    slots.push_back({p->name, p->value.shape(), std::binary_search(packable.begin(), packable.end(), p->name)});
  return slots;
}

template <class D, class T>
void Decoder<D, T>::pack_weight(const std::string& name, std::shared_ptr<const PackedMatrix<T, D>> matrix) {
  if (name == "model.embed_tokens.weight") return packed_embedding_ = std::move(matrix), embedding_.reset();
  if (name == "lm_head.weight" && !config_.tied_head) return packed_head_ = std::move(matrix), head_.reset();
  for (Linear<D, T>* l : linears())
    if (l->path.size() + 7 == name.size() && name.starts_with(l->path)) return l->pack(std::move(matrix));
  for (DecoderBlock<D, T>& b : blocks_) {
    auto* mixture = dynamic_cast<ExpertFeedForward<D, T>*>(b.feed_forward.get());
    if (mixture == nullptr) continue;
    if (mixture->gate_up() != nullptr && mixture->gate_up()->name == name)
      return mixture->pack_gate_up(std::move(matrix));
    if (mixture->down() != nullptr && mixture->down()->name == name) return mixture->pack_down(std::move(matrix));
  }
  fail<ConfigError>("[pack_weight] the model has no matrix ", name);
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
