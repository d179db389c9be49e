// SPDX-License-Identifier: Apache-2.0
// Steps on rescored documents, weighted by the teacher's confidence, among steps on plain ones.
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
  double share = 0.65;             // of rescored steps
  std::int64_t micro_batches = 1;  // batches a step: RunSettings::micro_batches
  ConfidenceSettings confidence{};

  template <class Self, class F>
  static void visit_fields(Self& self, F&& f) {
    f(FieldInfo{"share", "", "in [0, 1]", "of steps that are rescored"}, self.share);
    f(FieldInfo{"micro_batches", "", ">= 1", "batches a step"}, self.micro_batches);
    ConfidenceSettings::visit_fields(self.confidence, f);
  }
};

/// A DataSource of two data sets with a cursor each. Step k is rescored iff is_shared_step(k, share). The training loop
/// hands all batches of a step to weigh_rows() when SpanWeights has put 1 / (tokens of the span) into their weights:
/// rows of a rescored step are multiplied by their ConfidenceWeights, so that w is a factor of the loss and not of its
/// denominator. Trainer does; next() refuses to go on behind a rescored step that was not weighed. The cursor holds the
/// running sums exactly.
class RescoredMix {
 public:
  /// `rescored` reads parts of `rescore`. ConfigError: it has no log-probabilities; a setting out of range.
  RescoredMix(IndexedDataset plain, IndexedDataset rescored, RescoredMixSettings settings = {});

  std::optional<TokenBatch> next();
  SourceCursor cursor() const;
  void seek(const SourceCursor& cursor);
  SourceDescription describe() const;

  /// Once a step, with all its batches, behind SpanWeights::weigh. InputError: batches that this source did not give
  /// out.
  void weigh_rows(std::span<TokenBatch> step);
  /// Numbers of the step that weigh_rows() saw: "train/kind", "train/confidence_center" and so on.
  const std::vector<std::pair<std::string, double>>& step_metrics() const { return metrics_; }

  bool rescored_step() const { return is_shared_step(batches_ / settings_.micro_batches, settings_.share); }
  const ConfidenceWeights& weights() const { return weights_; }

 private:
  void measure(const std::vector<float>& log_probs, const std::vector<std::int32_t>& spans,
               const std::vector<double>& weights, const std::vector<double>& example_means);

  IndexedDataset plain_, rescored_;
  RescoredMixSettings settings_;
  ConfidenceWeights weights_;
  bool weighed_ = false;              // the step
  std::int64_t batches_ = 0;          // given out
  std::vector<StoredDocument> step_;  // rescored documents of the step, in batch order
  std::vector<std::pair<std::string, double>> metrics_;
};

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/data/rescored_mix_inl.hpp"
#endif

#endif
