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

template <class D, class T>
Tensor<T, D> Decoder<D, T>::decode(KvCache<T, D>& cache, const TokenBatch& batch, std::span<const std::int32_t> slots,
                                   const Tensor<std::int32_t, D>& ids) {
  require<ShapeError>(static_cast<std::int64_t>(slots.size()) == batch.documents(), "[Decoder::decode] ", slots.size(),
                      " slots for ", batch.documents(), " documents");
  require<ShapeError>(cache.layers() == config_.layers, "[Decoder::decode] the cache was made for another model");
  std::vector<std::int64_t> past;
  for (std::int64_t b = 0; b < batch.documents(); ++b) {
    const std::int32_t slot = slots[static_cast<std::size_t>(b)];
    past.push_back(cache.length(slot));
    require<InputError>(past.back() + batch.length(b) <= cache.capacity(), "[Decoder::decode] slot ", slot, " holds ",
                        past.back(), " tokens; ", batch.length(b), " more do not fit into its ", cache.capacity());
    require<ShapeError>(std::find(slots.begin(), slots.begin() + b, slot) == slots.begin() + b,
                        "[Decoder::decode] slot ", slot, " is named twice");
  }
  require<ShapeError>(!ids || ids.count() == batch.tokens(), "[Decoder::decode] ", ids.count(),
                      " ids on the device for ", batch.tokens(), " tokens");
  LayerContext<D, T> context = context_for(batch, past);
  if (ids) context.layout.ids = ids;
  const Tensor<std::int32_t, D> slots_there =
      detail::to_device<D>(std::vector<std::int32_t>(slots.begin(), slots.end()));
  const Tensor<std::int64_t, D> past_there = detail::to_device<D>(past);
  CacheRanges<T> ranges{nullptr, nullptr, cache.capacity(), slots_there.data(), past_there.data()};
  context.cache = &ranges;
  Tape<T, D> tape(false);
  Var<T, D> h = embed(tape, context.layout);
  for (std::size_t i = 0; i < blocks_.size(); ++i) {
    ranges.keys = cache.keys(static_cast<std::int64_t>(i));
    ranges.values = cache.values(static_cast<std::int64_t>(i));
    h = blocks_[i].forward(tape, h, context);
  }
  if (context.chosen != nullptr) detail::record_choices(chosen_, *record_);
  for (std::int64_t b = 0; b < batch.documents(); ++b) cache.grow(slots[static_cast<std::size_t>(b)], batch.length(b));
  return rms_norm(tape, *final_norm_, h, config_.norm_epsilon, context.norm_ones).value;
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
