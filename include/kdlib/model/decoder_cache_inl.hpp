// SPDX-License-Identifier: Apache-2.0
// Bodies of decoder.hpp: decoding with a cache of keys and values, and copies that share weights.
#ifndef KDLIB_MODEL_DECODER_CACHE_INL_HPP
#define KDLIB_MODEL_DECODER_CACHE_INL_HPP

#include <algorithm>
#include <bit>
#include <vector>

#include "kdlib/model/decoder.hpp"

KDLIB_NAMESPACE_BEGIN

template <class D, class T>
KvCache<T, D> Decoder<D, T>::make_cache(std::int64_t sequences, std::int64_t capacity) const {
  require<ShapeError>(sequences > 0 && capacity > 0, "[Decoder::make_cache] ", sequences, " sequences of ", capacity,
                      " tokens");
  return KvCache<T, D>(config_.layers, sequences, capacity, config_.kv_heads * config_.head_size);
}

namespace detail {
/// Tokens that each slot holds; `more[b]` further ones fit into it. Slots are named once.
template <class T, class D, class More>
std::vector<std::int64_t> checked_past(const KvCache<T, D>& cache, std::int64_t layers,
                                       std::span<const std::int32_t> slots, More&& more) {
  require<ShapeError>(cache.layers() == layers, "[Decoder::decode] the cache was made for another model");
  std::vector<std::int64_t> past;
  for (std::size_t b = 0; b < slots.size(); ++b) {
    const std::int32_t slot = slots[b];
    past.push_back(cache.length(slot));
    require<InputError>(past.back() + more(b) <= cache.capacity(), "[Decoder::decode] slot ", slot, " holds ",
                        past.back(), " tokens; ", more(b), " more do not fit into its ", cache.capacity());
    require<ShapeError>(std::find(slots.begin(), slots.begin() + static_cast<std::ptrdiff_t>(b), slot) ==
                            slots.begin() + static_cast<std::ptrdiff_t>(b),
                        "[Decoder::decode] slot ", slot, " is named twice");
  }
  return past;
}
}  // namespace detail

template <class D, class T>
Tensor<T, D> Decoder<D, T>::decode(KvCache<T, D>& cache, const TokenBatch& batch, std::span<const std::int32_t> slots) {
  require<ShapeError>(static_cast<std::int64_t>(slots.size()) == batch.documents(), "[Decoder::decode] ", slots.size(),
                      " slots for ", batch.documents(), " documents");
  const auto past = detail::checked_past(
      cache, config_.layers, slots, [&batch](std::size_t b) { return batch.length(static_cast<std::int64_t>(b)); });
  LayerContext<D, T> context = context_for(batch, past);
  const auto [slots_there, past_there] =
      upload_together<D>(std::vector<std::int32_t>(slots.begin(), slots.end()), past);
  const Tensor<T, D> hidden =
      run_cached(cache, context, {nullptr, nullptr, cache.capacity(), slots_there.data(), past_there.data()});
  for (std::int64_t b = 0; b < batch.documents(); ++b) cache.grow(slots[static_cast<std::size_t>(b)], batch.length(b));
  return hidden;
}

/// `ranges` of all layers but their keys and values.
template <class D, class T>
Tensor<T, D> Decoder<D, T>::run_cached(KvCache<T, D>& cache, LayerContext<D, T>& context, CacheRanges<T> ranges) {
  context.cache = &ranges;
  Tape<T, D> tape(false);
  Var<T, D> h = embed(tape, context.layout);
  for (std::size_t i = 0; i < blocks_.size(); ++i) {
    ranges.keys = cache.keys(static_cast<std::int64_t>(i));
    ranges.values = cache.values(static_cast<std::int64_t>(i));
    h = blocks_[i].forward(tape, h, context);
  }
  record_choices();
  return rms_norm(tape, *final_norm_, h, config_.norm_epsilon, context.norm_ones).value;
}

template <class D, class T>
DecodeState<D> Decoder<D, T>::begin_decoding(const KvCache<T, D>& cache, std::span<const std::int32_t> slots,
                                             std::span<const std::int32_t> ids, std::int64_t steps) {
  require<ShapeError>(slots.size() == ids.size() && !slots.empty() && steps > 0, "[Decoder::begin_decoding] ",
                      slots.size(), " slots, ", ids.size(), " ids and ", steps, " steps");
  for (const std::int32_t id : ids)
    require<InputError>(id >= 0 && id < config_.vocab_size, "[Decoder::begin_decoding] id ", id,
                        " is outside the vocabulary of ", config_.vocab_size);
  if (!codes_held_) refresh_codes();
  DecodeState<D> state;
  const auto rows = static_cast<std::int64_t>(slots.size());
  state.arrays.emplace(rows, rows, rows + 1, rows, rows);
  std::tie(state.ids, state.positions, state.offsets, state.slots, state.past) = state.arrays->tensors();
  continue_decoding(cache, state, slots, ids, steps, rows);
  return state;
}

template <class D, class T>
void Decoder<D, T>::continue_decoding(const KvCache<T, D>& cache, DecodeState<D>& state,
                                      std::span<const std::int32_t> slots, std::span<const std::int32_t> ids,
                                      std::int64_t steps, std::int64_t sequences) {
  const auto rows = static_cast<std::int64_t>(slots.size());
  require<ShapeError>(rows == state.rows() && rows == static_cast<std::int64_t>(ids.size()) && sequences > 0 &&
                          sequences <= rows && steps > 0,
                      "[Decoder::continue_decoding] ", rows, " slots, ", ids.size(), " ids, ", sequences,
                      " sequences and ", steps, " steps for a state of ", state.rows(), " rows");
  if (!codes_held_) refresh_codes();
  const auto past = detail::checked_past(cache, config_.layers, slots, [steps](std::size_t) { return steps; });
  std::vector<std::int64_t> offsets;
  for (std::int64_t b = 0; b <= rows; ++b) offsets.push_back(b);
  state.sequences.assign(slots.begin(), slots.begin() + static_cast<std::ptrdiff_t>(sequences));
  state.steps = steps;
  const std::vector<std::int32_t> positions(past.begin(), past.end());
  state.arrays->put(ids, positions, offsets, slots, past);
  ensure_rope(*std::max_element(past.begin(), past.end()) + steps);
}

template <class D, class T>
Tensor<T, D> Decoder<D, T>::decode_step(KvCache<T, D>& cache, DecodeState<D>& state) {
  state.count_step(cache);
  LayerContext<D, T> context = context_of({state.ids, state.positions, state.offsets, state.rows()});
  const Tensor<T, D> hidden =
      run_cached(cache, context, {nullptr, nullptr, cache.capacity(), state.slots.data(), state.past.data()});
  Kernels<D, T>::advance(state.rows(), state.positions.data(), state.past.data());
  return hidden;
}

template <class D, class T>
std::vector<std::uintptr_t> Decoder<D, T>::step_dependencies(KvCache<T, D>& cache) const {
  std::vector<std::uintptr_t> list;
  const auto add = [&list](const void* p) { list.push_back(reinterpret_cast<std::uintptr_t>(p)); };
  std::vector<Parameter<T, D>*> parameters;
  for (const DecoderBlock<D, T>& b : blocks_) b.append_parameters(parameters);
  for (Parameter<T, D>* p : {embedding_.get(), final_norm_.get(), head_.get()})
    if (p != nullptr) parameters.push_back(p);
  for (const Parameter<T, D>* p : parameters) add(p->value.data());
  for (const PackedWeight<D, T>& w : packed_weights()) add(w.matrix);
  for (const Linear<D, T>* l : adaptable()) {
    const LinearOperand<T, D> operand = l->operand(adapter_enabled_);
    add(operand.packed), add(operand.lora_a), add(operand.weight);
    const double scale = operand.lora_scale;
    list.push_back(std::bit_cast<std::uint64_t>(scale));
  }
  for (const RopeTable<T, D>* t : {&rope_, &sliding_rope_}) add(t->cosine.data()), add(t->sine.data());
  for (std::int64_t i = 0; i < cache.layers(); ++i) add(cache.keys(i)), add(cache.values(i));
  add(norm_ones_.data());
  for (const bool flag : {record_ != nullptr, pending_record_ != nullptr, replay_ != nullptr}) list.push_back(flag);
  list.push_back(static_cast<std::uintptr_t>(cache.capacity()));
  list.push_back(static_cast<std::uintptr_t>(real_vocabulary_));
  return list;
}

template <class D, class T>
std::string Decoder<D, T>::step_capture_obstacle() const {
  for (const PackedWeight<D, T>& w : packed_weights())
    if (!w.matrix->stays_on_device()) return concat(w.name, " (", w.matrix->description(), ") is read by the host");
  for (const Linear<D, T>* l : adaptable())
    if (const auto* codes = l->operand(adapter_enabled_).packed; codes != nullptr && !codes->stays_on_device())
      return concat(l->path, " (", codes->description(), ") is read by the host");
  if (record_ != nullptr) return "set_routing(record) reads the choices of each pass on the host";
  if (replay_ != nullptr) return "set_routing(record, replay) copies choices to the device in each pass";
  return "";
}

template <class D, class T>
Decoder<D, T> Decoder<D, T>::share() const {
  Decoder copy;
  copy.config_ = config_;
  copy.notes_ = notes_;
  copy.source_ = source_;
  copy.embedding_ = detail::share_parameter<D, T>(embedding_);
  copy.final_norm_ = detail::share_parameter<D, T>(final_norm_);
  copy.head_ = detail::share_parameter<D, T>(head_);
  copy.packed_embedding_ = packed_embedding_;
  copy.packed_head_ = packed_head_;
  for (const DecoderBlock<D, T>& from : blocks_) {
    DecoderBlock<D, T>& to = copy.blocks_.emplace_back();
    to.input_norm = detail::share_parameter<D, T>(from.input_norm);
    to.post_norm = detail::share_parameter<D, T>(from.post_norm);
    to.attention_out_norm = detail::share_parameter<D, T>(from.attention_out_norm);
    to.feed_forward_out_norm = detail::share_parameter<D, T>(from.feed_forward_out_norm);
    to.attention.q = from.attention.q.share();
    to.attention.k = from.attention.k.share();
    to.attention.v = from.attention.v.share();
    to.attention.o = from.attention.o.share();
    to.attention.q_norm = detail::share_parameter<D, T>(from.attention.q_norm);
    to.attention.k_norm = detail::share_parameter<D, T>(from.attention.k_norm);
    to.attention.sinks = detail::share_parameter<D, T>(from.attention.sinks);
    to.attention.heads = from.attention.heads;
    to.attention.sliding_rope = from.attention.sliding_rope;
    to.feed_forward = from.feed_forward->share();
  }
  return copy;
}

KDLIB_NAMESPACE_END

#endif
