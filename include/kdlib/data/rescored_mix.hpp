// SPDX-License-Identifier: Apache-2.0
// Mixes training steps on rescored documents, weighted by the teacher's confidence, with steps on plain documents.
#ifndef KDLIB_DATA_RESCORED_MIX_HPP
#define KDLIB_DATA_RESCORED_MIX_HPP

#include <array>
#include <optional>
#include <span>

#include "kdlib/data/confidence.hpp"
#include "kdlib/data/indexed_dataset.hpp"

KDLIB_NAMESPACE_BEGIN

/// How rescored and plain steps are mixed.
struct RescoredMixSettings {
  double share = 0.65;             // share of rescored steps, in [0, 1]
  std::int64_t micro_batches = 1;  // batches of a step, as RunSettings::micro_batches
  ConfidenceSettings confidence{};

  template <class Self, class F>
  static void visit_fields(Self& self, F&& f) {
    f(FieldInfo{"share", "", "in [0, 1]", "of steps that are rescored"}, self.share);
    f(FieldInfo{"micro_batches", "", ">= 1", "batches a step"}, self.micro_batches);
    ConfidenceSettings::visit_fields(self.confidence, f);
  }
};

/// A DataSource of two data sets, which each have a cursor. Step k is rescored if is_shared_step(k, share). The
/// training loop must pass all batches of a step to weigh_rows() after SpanWeights has put 1 / (tokens of the span)
/// into their weights. weigh_rows() multiplies the weights of a rescored step by the ConfidenceWeights w, so that w is
/// a factor of the loss but not of its denominator. Trainer calls weigh_rows(). next() throws ConfigError after a
/// rescored step that was not weighed. The cursor holds the running sums of ConfidenceWeights exactly.
class RescoredMix {
 public:
  /// `rescored` reads parts that rescore_documents() wrote. ConfigError: `rescored` has no log-probabilities, or a
  /// setting is out of its range.
  RescoredMix(IndexedDataset plain, IndexedDataset rescored, RescoredMixSettings settings = {});

  std::optional<TokenBatch> next();
  SourceCursor cursor() const;
  void seek(const SourceCursor& cursor);
  SourceDescription describe() const;

  /// Call weigh_rows() once for each step, with all its batches, after SpanWeights::weigh(). InputError: this source
  /// did not give out these batches.
  void weigh_rows(std::span<TokenBatch> step);
  /// Returns names and numbers of the step that weigh_rows() saw last, such as "train/kind" and
  /// "train/confidence_center".
  const std::vector<std::pair<std::string, double>>& step_metrics() const { return metrics_; }

  bool rescored_step() const { return is_shared_step(batches_ / settings_.micro_batches, settings_.share); }
  const ConfidenceWeights& weights() const { return weights_; }

 private:
  void measure(const std::vector<float>& log_probs, const std::vector<std::int32_t>& spans,
               const std::vector<double>& weights, const std::vector<double>& example_means);

  IndexedDataset plain_, rescored_;
  RescoredMixSettings settings_;
  ConfidenceWeights weights_;
  bool weighed_ = false;              // weigh_rows() has seen the current step
  std::int64_t batches_ = 0;          // batches given out
  std::vector<StoredDocument> step_;  // rescored documents of the step, in batch order
  std::vector<std::pair<std::string, double>> metrics_;
};

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/data/rescored_mix_inl.hpp"
#endif

#endif
