// SPDX-License-Identifier: Apache-2.0
// Small parts to train with in tests: a teacher over a toy model and sources of ragged documents with a cursor.
#ifndef KDLIB_TESTS_SUPPORT_TRAINING_PARTS_HPP
#define KDLIB_TESTS_SUPPORT_TRAINING_PARTS_HPP

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kdlib/core/rng.hpp"
#include "kdlib/loss/concepts.hpp"
#include "kdlib/tensor/token_batch.hpp"
#include "support/toy_model.hpp"

namespace kdlib_tests {

/// Gives a model's hidden states and head, as a live teacher does.
template <class Model>
class TestTeacher {
  using T = typename Model::scalar_type;
  using D = typename Model::device_type;

 public:
  using targets_type = kdlib::HiddenTargets<T, D>;

  explicit TestTeacher(Model& model) : model_(&model) {}

  std::int64_t vocab_size() const { return model_->vocab_size(); }
  void prepare(const kdlib::TokenBatch& batch) {
    const kdlib::Tensor<T, D> hidden = model_->forward(batch);
    const auto rows = batch.rows();
    const std::int64_t width = hidden[1];
    rows_ = kdlib::Tensor<T, D>(kdlib::Shape{static_cast<std::int64_t>(rows.token.size()), width});
    for (std::size_t r = 0; r < rows.token.size(); ++r)
      std::copy_n(hidden.data() + rows.token[r] * width, width, rows_.data() + static_cast<std::int64_t>(r) * width);
  }
  targets_type targets(std::int64_t begin, std::int64_t count) const {
    return {std::as_const(rows_).view().rows(begin, count), model_->head()};
  }

 private:
  Model* model_;
  kdlib::Tensor<T, D> rows_;
};

/// Documents of 2 to 9 random tokens, about a fifth of them without weight; batch n depends on seed and n alone.
class RaggedDocuments {
 public:
  struct Settings {
    std::int64_t vocabulary = 17;
    std::int64_t documents = 3;  // of a batch
    std::uint64_t seed = 1;
    std::int64_t batches = std::int64_t{1} << 40;  // the source ends behind them
  };
  explicit RaggedDocuments(Settings settings) : settings_(settings) {}

  std::optional<kdlib::TokenBatch> next() {
    if (at_ >= settings_.batches) return std::nullopt;
    return batch(at_++);
  }
  std::string cursor() const { return std::to_string(at_); }
  void seek(const std::string& cursor) { at_ = std::stoll(cursor); }
  std::vector<std::pair<std::string, std::string>> describe() const {
    return {{"source.seed", std::to_string(settings_.seed)}};
  }

  kdlib::TokenBatch batch(std::int64_t n) const {
    kdlib::TokenBatch out;
    for (std::int64_t b = 0; b < settings_.documents; ++b) {
      const kdlib::Rng rng(settings_.seed, kdlib::RngPurpose::test, static_cast<std::uint32_t>(n),
                           static_cast<std::uint32_t>(b));
      std::vector<std::int32_t> ids(2 + rng.below(0, 8));
      std::vector<float> weights(ids.size());
      for (std::size_t i = 0; i < ids.size(); ++i) {
        const auto index = static_cast<std::uint32_t>(2 * i);
        ids[i] = static_cast<std::int32_t>(rng.below(index + 1, static_cast<std::uint64_t>(settings_.vocabulary)));
        weights[i] = rng.uniform(index + 2) < 0.2 ? 0.0f : 1.0f;
      }
      out.append(ids, weights);
    }
    return out;
  }

 private:
  Settings settings_;
  std::int64_t at_ = 0;
};

/// Batches that the test made.
class ListedBatches {
 public:
  explicit ListedBatches(std::vector<kdlib::TokenBatch> batches) : batches_(std::move(batches)) {}
  std::optional<kdlib::TokenBatch> next() {
    if (at_ >= batches_.size()) return std::nullopt;
    return batches_[at_++];
  }
  std::string cursor() const { return std::to_string(at_); }
  void seek(const std::string& cursor) { at_ = static_cast<std::size_t>(std::stoll(cursor)); }

 private:
  std::vector<kdlib::TokenBatch> batches_;
  std::size_t at_ = 0;
};

/// All parameters' values, one behind the other.
template <class Model>
std::vector<typename Model::scalar_type> all_values(Model& model) {
  std::vector<typename Model::scalar_type> out;
  for (auto* p : model.parameters()) out.insert(out.end(), p->value.data(), p->value.data() + p->value.count());
  return out;
}
template <class Model>
std::vector<typename Model::scalar_type> all_gradients(Model& model) {
  std::vector<typename Model::scalar_type> out;
  for (auto* p : model.parameters())
    out.insert(out.end(), p->gradient_view().data(), p->gradient_view().data() + p->gradient_view().count());
  return out;
}

}  // namespace kdlib_tests

#endif
