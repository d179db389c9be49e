// SPDX-License-Identifier: Apache-2.0
// Keys and values of the tokens that generation has seen. A cache has a fixed number of slots; each slot is a sequence
// with its own length.
#ifndef KDLIB_MODEL_KV_CACHE_HPP
#define KDLIB_MODEL_KV_CACHE_HPP

#include <vector>

#include "kdlib/tensor/tensor.hpp"

KDLIB_NAMESPACE_BEGIN

/// Decoder::make_cache makes a cache, Decoder::decode fills it.
template <class T, class D>
class KvCache {
 public:
  KvCache() = default;
  /// `width` = kv_heads * head_size.
  KvCache(std::int64_t layers, std::int64_t sequences, std::int64_t capacity, std::int64_t width)
      : capacity_(capacity), lengths_(static_cast<std::size_t>(sequences), 0) {
    for (std::int64_t i = 0; i < layers; ++i)
      for (std::vector<Tensor<T, D>>* list : {&keys_, &values_}) list->emplace_back(Shape{sequences * capacity, width});
  }

  std::int64_t sequences() const { return static_cast<std::int64_t>(lengths_.size()); }
  std::int64_t capacity() const { return capacity_; }  // tokens a slot can hold
  std::int64_t layers() const { return static_cast<std::int64_t>(keys_.size()); }
  /// Number of tokens in a slot.
  std::int64_t length(std::int64_t slot) const { return lengths_[checked(slot)]; }
  /// Keeps only the first `length` tokens of a slot (0: the slot is empty). Throws ShapeError if the slot has fewer
  /// tokens.
  void truncate(std::int64_t slot, std::int64_t length = 0) {
    std::int64_t& now = lengths_[checked(slot)];
    require<ShapeError>(length >= 0 && length <= now, "[KvCache::truncate] slot ", slot, " holds ", now,
                        " tokens, not ", length);
    now = length;
  }
  /// Copies the content of slot `from` into slot `to`.
  void copy(std::int64_t from, std::int64_t to) {
    const std::int64_t tokens = length(from);
    lengths_[checked(to)] = tokens;
    for (std::size_t i = 0; i < keys_.size() && from != to; ++i)
      for (const Tensor<T, D>* t : {&keys_[i], &values_[i]}) {
        const std::int64_t slot = capacity_ * (*t)[1];
        Memory<D>::copy(t->data() + to * slot, t->data() + from * slot,
                        static_cast<std::size_t>(tokens * (*t)[1]) * sizeof(T));
      }
  }
  std::int64_t bytes() const {
    std::int64_t sum = 0;
    for (const Tensor<T, D>& t : keys_) sum += 2 * t.bytes();
    return sum;
  }

  T* keys(std::int64_t layer) { return keys_[static_cast<std::size_t>(layer)].data(); }
  T* values(std::int64_t layer) { return values_[static_cast<std::size_t>(layer)].data(); }
  void grow(std::int64_t slot, std::int64_t tokens) { lengths_[checked(slot)] += tokens; }

 private:
  std::size_t checked(std::int64_t slot) const {
    require<ShapeError>(slot >= 0 && slot < sequences(), "[KvCache] slot ", slot, " of ", sequences());
    return static_cast<std::size_t>(slot);
  }

  std::int64_t capacity_ = 0;
  std::vector<std::int64_t> lengths_;
  std::vector<Tensor<T, D>> keys_, values_;  // one tensor a layer: [sequences * capacity, width]
};

KDLIB_NAMESPACE_END

#endif
