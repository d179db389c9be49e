// SPDX-License-Identifier: Apache-2.0
// Bodies of decoder.hpp: decoding with a cache of keys and values, and copies that share weights.
#ifndef KDLIB_MODEL_DECODER_CACHE_INL_HPP
#define KDLIB_MODEL_DECODER_CACHE_INL_HPP

#include <algorithm>
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
  const Tensor<std::int32_t, D> slots_there =
      detail::to_device<D>(std::vector<std::int32_t>(slots.begin(), slots.end()));
  const Tensor<std::int64_t, D> past_there = detail::to_device<D>(past);
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
  const auto past = detail::checked_past(cache, config_.layers, slots, [steps](std::size_t) { return steps; });
  std::vector<std::int64_t> offsets;
  for (std::size_t b = 0; b <= slots.size(); ++b) offsets.push_back(static_cast<std::int64_t>(b));
  state.sequences.assign(slots.begin(), slots.end());
  state.steps = steps;
  state.ids = detail::to_device<D>(std::vector<std::int32_t>(ids.begin(), ids.end()));
  state.positions = detail::to_device<D>(std::vector<std::int32_t>(past.begin(), past.end()));
  state.offsets = detail::to_device<D>(offsets);
  state.slots = detail::to_device<D>(state.sequences);
  state.past = detail::to_device<D>(past);
  ensure_rope(*std::max_element(past.begin(), past.end()) + steps);
  return state;
}

template <class D, class T>
Tensor<T, D> Decoder<D, T>::decode_step(KvCache<T, D>& cache, DecodeState<D>& state) {
  require<ShapeError>(state.steps > 0, "[Decoder::decode_step] the sequences have no room for another step");
  LayerContext<D, T> context = context_of({state.ids, state.positions, state.offsets, state.count()});
  const Tensor<T, D> hidden =
      run_cached(cache, context, {nullptr, nullptr, cache.capacity(), state.slots.data(), state.past.data()});
  Kernels<D, T>::advance(state.count(), state.positions.data(), state.past.data());
  for (const std::int32_t slot : state.sequences) cache.grow(slot, 1);
  --state.steps;
  return hidden;
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
