// SPDX-License-Identifier: Apache-2.0
// The tiny models of tests/reference/models and their expected tensors.
#ifndef KDLIB_TESTS_MODEL_REFERENCE_MODELS_HPP
#define KDLIB_TESTS_MODEL_REFERENCE_MODELS_HPP

#include <string>
#include <vector>

#include "golden.hpp"
#include "kdlib/backend/cpu.hpp"
#include "kdlib/io/safetensors.hpp"
#include "kdlib/model/decoder.hpp"
#include "support/shared.hpp"

namespace kdlib_tests {

struct ReferenceModel {
  explicit ReferenceModel(const std::string& name)
      : path(reference_file("models/" + name)),
        expected(path + "/expected.safetensors"),
        ids(longs("ids")),
        mask(longs("mask")) {
    const auto shape = expected.at("ids").shape();
    batch = shape[0];
    length = shape[1];
  }
  std::vector<std::int64_t> longs(const std::string& name) const {
    return kdlib::read_as<std::int64_t>(expected.at(name));
  }
  std::vector<float> floats(const std::string& name) const { return kdlib::read_as<float>(expected.at(name)); }
  kdlib::TokenBatch tokens() const { return kdlib::TokenBatch::from_padded(ids, mask, batch, length); }

  std::string path;
  kdlib::SafetensorsFile expected;
  std::vector<std::int64_t> ids, mask;
  std::int64_t batch = 0, length = 0;
};

/// Largest difference of packed logits [N, V] from padded ones [B, L, V] where the mask is 1.
template <class T>
double padded_difference(const std::vector<T>& packed, const std::vector<float>& padded,
                         const std::vector<std::int64_t>& mask) {
  const std::size_t v = padded.size() / mask.size();
  double worst = 0;
  std::size_t row = 0;
  for (std::size_t i = 0; i < mask.size(); ++i) {
    if (mask[i] == 0) continue;
    for (std::size_t j = 0; j < v; ++j) {
      const double d = std::abs(static_cast<double>(packed[row * v + j]) - static_cast<double>(padded[i * v + j]));
      worst = std::isnan(d) ? 1e9 : std::max(worst, d);
    }
    ++row;
  }
  return row * v == packed.size() ? worst : 1e9;
}

/// Greedy continuation of one prompt with the cache.
template <class D, class T>
std::vector<std::int32_t> greedy(kdlib::Decoder<D, T>& model, const std::vector<std::int32_t>& prompt,
                                 std::size_t count) {
  auto cache = model.make_cache(1, static_cast<std::int64_t>(prompt.size() + count));
  std::vector<std::int32_t> out, next = prompt;
  const std::vector<std::int32_t> slots = {0};
  while (out.size() < count) {
    kdlib::TokenBatch batch;
    batch.append(next);
    const auto hidden = model.decode(cache, batch, slots);
    const auto logits = logits_of(model, hidden);
    const std::size_t v = static_cast<std::size_t>(model.vocab_size()), last = logits.size() - v;
    std::size_t best = 0;
    for (std::size_t i = 1; i < v; ++i)
      if (logits[last + i] > logits[last + best]) best = i;
    next = {static_cast<std::int32_t>(best)};
    out.push_back(next[0]);
  }
  return out;
}

}  // namespace kdlib_tests

#endif
