// SPDX-License-Identifier: Apache-2.0
// A language model of kdlib behind a TeacherServer.
#ifndef KDLIB_TOOLS_SERVICE_TEACHER_ENGINE_HPP
#define KDLIB_TOOLS_SERVICE_TEACHER_ENGINE_HPP

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "kdlib/teacher/cache_head.hpp"
#include "kdlib/teacher/live.hpp"
#include "kdlib/teacher/write_cache.hpp"
#include "kdlib/text/byte_level_bpe.hpp"
#include "kdlib/tools/service/teacher_server.hpp"

KDLIB_NAMESPACE_BEGIN

/// A TeacherEngine around a model (a kd::Decoder), which is borrowed. For the same batch its hidden states are equal to
/// those of a LiveTeacher, bit for bit.
template <class M>
class ModelEngine final : public TeacherEngine {
 public:
  using T = typename M::scalar_type;
  using D = typename M::device_type;

  /// `facts` describe the teacher; their vocabulary and hidden size are replaced by the model's. `workspace_bytes`
  /// limits the chunks of logits.
  ModelEngine(M& model, std::optional<Tokenizer> tokenizer, ServedTeacher facts,
              std::int64_t workspace_bytes = std::int64_t{256} << 20)
      : model_(&model),
        teacher_(model),
        tokenizer_(std::move(tokenizer)),
        facts_(std::move(facts)),
        workspace_bytes_(workspace_bytes) {
    facts_.vocabulary = model.vocab_size();
    facts_.hidden_size = model.head().weight[1];
  }

  const ServedTeacher& facts() const override { return facts_; }

  std::vector<float> hidden(const TokenBatch& batch) override {
    teacher_.prepare(batch);
    if (teacher_.rows() == 0) return {};
    const std::vector<T> host = host_copy<T, D>(teacher_.targets(0, teacher_.rows()).hidden);
    if constexpr (std::is_same_v<T, float>) return host;
    else return std::vector<float>(host.begin(), host.end());
  }

  std::vector<ServedRow> rows(const TokenBatch& batch, std::int64_t top_k) override {
    teacher_.prepare(batch);
    const std::int64_t R = teacher_.rows();
    std::vector<ServedRow> out(static_cast<std::size_t>(R));
    if (R == 0) return out;
    const std::vector<std::int32_t> labels = batch.rows().label;
    const HiddenTargets<T, D> targets = teacher_.targets(0, R);
    const std::int64_t V = targets.head.columns();
    const std::vector<double> temperatures{1.0};
    detail::visit_logits(targets.head, targets.hidden, V, workspace_bytes_, [&](std::int64_t r, auto logits) {
      ServedRow& to = out[static_cast<std::size_t>(r)];
      const std::int32_t label = labels[static_cast<std::size_t>(r)];
      const auto z = logits[static_cast<std::size_t>(label)];
      to.label_rank = 1 + std::count_if(logits.begin(), logits.end(), [z](auto other) { return other > z; });
      to.top = top_k_row(logits, std::min(top_k, V), temperatures, label);
    });
    return out;
  }

  std::vector<float> log_probs_at(const TokenBatch& batch, std::span<const std::int32_t> ids,
                                  std::int64_t width) override {
    teacher_.prepare(batch);
    std::vector<float> out(ids.size());
    if (teacher_.rows() == 0) return out;
    const HiddenTargets<T, D> targets = teacher_.targets(0, teacher_.rows());
    const std::int64_t V = targets.head.columns();
    detail::visit_logits(targets.head, targets.hidden, V, workspace_bytes_, [&](std::int64_t r, auto logits) {
      const auto most = static_cast<double>(*std::max_element(logits.begin(), logits.end()));
      double sum = 0;
      for (const auto z : logits) sum += std::exp(static_cast<double>(z) - most);
      const double log_norm = most + std::log(sum);
      for (std::int64_t k = r * width; k < (r + 1) * width; ++k) {
        const std::int32_t id = ids[static_cast<std::size_t>(k)];
        out[static_cast<std::size_t>(k)] =
            id < V ? static_cast<float>(static_cast<double>(logits[static_cast<std::size_t>(id)]) - log_norm)
                   : -std::numeric_limits<float>::infinity();  // padding, which no softmax has
      }
    });
    return out;
  }

  void write_head(const std::string& path) override { write_cache_head(path, model_->head()); }

  std::vector<std::int32_t> tokenize(const std::string& text) const override {
    require<ConfigError>(tokenizer_.has_value(), "[serve] the teacher has no tokenizer: send ids");
    return tokenizer_->encode(text);
  }
  std::string text_of(std::int32_t id) const override {
    return tokenizer_ && id < tokenizer_->vocab_size() ? tokenizer_->decode(std::vector<std::int32_t>{id}, false) : "";
  }

 private:
  M* model_;
  LiveTeacher<M> teacher_;
  std::optional<Tokenizer> tokenizer_;
  ServedTeacher facts_;
  std::int64_t workspace_bytes_;
};

KDLIB_NAMESPACE_END

#endif
