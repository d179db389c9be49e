// SPDX-License-Identifier: Apache-2.0
// The smallest language model with a memory: h_i = E[x_i] + decay * h_(i-1), logits = W h. It has everything that kdlib
// asks of a model (training, a cache, a split-off head), so that generators, teachers and trainers can be tested
// without a decoder.
#ifndef KDLIB_TESTS_SUPPORT_TOY_MODEL_HPP
#define KDLIB_TESTS_SUPPORT_TOY_MODEL_HPP

#include <algorithm>
#include <cstdint>
#include <span>
#include <vector>

#include "kdlib/core/rng.hpp"
#include "kdlib/loss/concepts.hpp"
#include "kdlib/tensor/parameter.hpp"
#include "kdlib/tensor/token_batch.hpp"

namespace kdlib_tests {

template <class T>
class ToyModel {
 public:
  using device_type = kdlib::Cpu;
  using scalar_type = T;
  using D = kdlib::Cpu;
  static constexpr double decay = 0.5;

  struct Config {
    std::int64_t context_length = 0;
  };

  /// The state h of each slot; empty slots hold zeros.
  struct Cache {
    std::int64_t width, capacity;
    std::vector<T> state;
    std::vector<std::int64_t> lengths;
    void truncate(std::int64_t slot, std::int64_t length) {
      kdlib::require<kdlib::ShapeError>(length == 0,
                                        "[toy cache] only whole sequences are forgotten, not the end behind ", length);
      lengths.at(static_cast<std::size_t>(slot)) = 0;
      std::fill_n(state.begin() + slot * width, width, T{0});
    }
  };

  ToyModel(std::int64_t vocabulary, std::int64_t width, std::uint64_t seed, double spread = 1.0,
           std::int64_t context_length = 0)
      : config_{context_length} {
    embedding_.name = "embedding.weight";
    head_.name = "head.weight";
    for (auto* p : parameters()) {
      p->value = kdlib::Tensor<T, D>(kdlib::Shape{vocabulary, width});
      p->trainable = true;
      const kdlib::Rng rng(seed, kdlib::RngPurpose::initialise, 0, p == &head_ ? 1 : 0);
      for (std::int64_t i = 0; i < p->value.count(); ++i)
        p->value.data()[i] = static_cast<T>(spread * (2 * rng.uniform(static_cast<std::uint32_t>(i)) - 1));
    }
  }
  ToyModel(const ToyModel&) = delete;
  ToyModel& operator=(const ToyModel&) = delete;

  const Config& config() const { return config_; }
  std::int64_t vocab_size() const { return embedding_.value[0]; }
  std::int64_t hidden_size() const { return embedding_.value[1]; }
  std::vector<kdlib::Parameter<T, D>*> parameters() { return {&embedding_, &head_}; }
  kdlib::HeadView<T, D> head() const {
    kdlib::HeadView<T, D> view;
    view.weight = head_.value.view();
    return view;
  }
  kdlib::Parameter<T, D>* head_parameter() { return head_.trainable ? &head_ : nullptr; }

  kdlib::Tensor<T, D> forward(const kdlib::TokenBatch& batch) {
    ++forward_calls;
    batch.check(vocab_size());
    kdlib::Tensor<T, D> hidden(kdlib::Shape{batch.tokens(), hidden_size()});
    const std::vector<T> zeros(static_cast<std::size_t>(hidden_size()), T{0});
    for (std::int64_t b = 0; b < batch.documents(); ++b) run_document(batch, b, zeros.data(), hidden.data());
    return hidden;
  }
  kdlib::Tensor<T, D> forward_training(const kdlib::TokenBatch& batch) {
    recorded_ = batch;
    return forward(batch);
  }
  void backward(kdlib::View<const T, D> gradient) {
    const std::int64_t width = hidden_size();
    T* out = embedding_.gradient_view().data();
    std::vector<T> carried(static_cast<std::size_t>(width));
    for (std::int64_t b = 0; b < recorded_.documents(); ++b) {
      std::fill(carried.begin(), carried.end(), T{0});
      const auto document = static_cast<std::size_t>(b);
      for (std::int64_t i = recorded_.offsets[document + 1]; i-- > recorded_.offsets[document];)
        for (std::int64_t j = 0; j < width; ++j) {
          T& g = carried[static_cast<std::size_t>(j)];
          g = gradient.data()[i * width + j] + static_cast<T>(decay) * g;
          out[recorded_.ids[static_cast<std::size_t>(i)] * width + j] += g;
        }
    }
  }

  Cache make_cache(std::int64_t sequences, std::int64_t capacity) const {
    return {hidden_size(), capacity, std::vector<T>(static_cast<std::size_t>(sequences * hidden_size())),
            std::vector<std::int64_t>(static_cast<std::size_t>(sequences))};
  }
  kdlib::Tensor<T, D> decode(Cache& cache, const kdlib::TokenBatch& batch, std::span<const std::int32_t> slots) {
    kdlib::require<kdlib::ShapeError>(static_cast<std::int64_t>(slots.size()) == batch.documents(), "[toy decode] ",
                                      slots.size(), " slots for ", batch.documents());
    batch.check(vocab_size());
    kdlib::Tensor<T, D> hidden(kdlib::Shape{batch.tokens(), hidden_size()});
    largest_decode = std::max(largest_decode, batch.documents());
    for (std::int64_t b = 0; b < batch.documents(); ++b) {
      const auto slot = static_cast<std::size_t>(slots[static_cast<std::size_t>(b)]);
      cache.lengths.at(slot) += batch.length(b);
      kdlib::require<kdlib::ShapeError>(cache.lengths[slot] <= cache.capacity, "[toy decode] slot ", slot,
                                        " is full at ", cache.capacity);
      T* state = cache.state.data() + static_cast<std::int64_t>(slot) * cache.width;
      run_document(batch, b, state, hidden.data());
      std::copy_n(hidden.data() + (batch.offsets[static_cast<std::size_t>(b + 1)] - 1) * cache.width, cache.width,
                  state);
    }
    return hidden;
  }

  std::int64_t forward_calls = 0;
  std::int64_t largest_decode = 0;  // documents in one call

 private:
  void run_document(const kdlib::TokenBatch& batch, std::int64_t b, const T* before, T* hidden) const {
    const std::int64_t width = hidden_size();
    for (std::int64_t i = batch.offsets[static_cast<std::size_t>(b)];
         i < batch.offsets[static_cast<std::size_t>(b + 1)]; ++i) {
      const T* row = embedding_.value.data() + batch.ids[static_cast<std::size_t>(i)] * width;
      for (std::int64_t j = 0; j < width; ++j) hidden[i * width + j] = row[j] + static_cast<T>(decay) * before[j];
      before = hidden + i * width;
    }
  }

  Config config_;
  kdlib::Parameter<T, D> embedding_, head_;
  kdlib::TokenBatch recorded_;
};

}  // namespace kdlib_tests

#endif
