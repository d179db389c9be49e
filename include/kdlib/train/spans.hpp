// SPDX-License-Identifier: Apache-2.0
// Named spans of tokens, each a mean of its own: reasoning and answer, tool calls, prompt. Which span a token is in is
// the caller's to say.
#ifndef KDLIB_TRAIN_SPANS_HPP
#define KDLIB_TRAIN_SPANS_HPP

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "kdlib/loss/concepts.hpp"
#include "kdlib/tensor/token_batch.hpp"

KDLIB_NAMESPACE_BEGIN

/// A named part of the text with its weight in the step's loss.
struct Span {
  std::string name;   // for reports; not empty, each once
  double weight = 1;  // >= 0
};

/// What a span came to in a step: loss.sum over its tokens, loss.weight its denominator.
struct SpanLoss {
  std::string name;
  double weight = 1;  // of the span in the step's loss
  LossSum loss;
};

/// The loss of a step as sum over spans of weight_s * (sum of a_r loss_r over the span's rows) / (sum of a_r over the
/// span's rows of the WHOLE step), a_r the rows' own weights. Each denominator is fixed before the first pass, so how
/// the rows are cut into micro-batches changes nothing; a span without rows in a step adds 0. A step is:
///
///   spans.begin_step();
///   for (each micro-batch) spans.count(span_of_row, row_weights);  // every row of the step, before its first pass
///   for (each micro-batch) {
///     const std::vector<float> w = spans.weights(span_of_row, row_weights);  // weight_s a_r / denominator_s
///     // scale 1: the denominators are in w
///     const auto result = head_loss(..., {.labels = ..., .weights = w}, 1.0, ..., {.row_values = true});
///     spans.add(span_of_row, row_weights, result.row_values);  // for losses(); may be left out
///   }
///
/// span_of_row [R] holds the number of each row's span, -1 for rows that do not count; row_weights [R] is empty where
/// all are 1.
class SpanWeights {
 public:
  /// Throws ConfigError on no spans, a name twice or empty, a weight that is negative or not finite.
  explicit SpanWeights(std::vector<Span> spans);

  void begin_step();
  /// Adds rows to the denominators. Throws ConfigError after weights() was called in this step: a denominator would
  /// change between two passes.
  void count(std::span<const std::int32_t> span_of_row, std::span<const float> row_weights = {});
  std::vector<float> weights(std::span<const std::int32_t> span_of_row, std::span<const float> row_weights = {});
  void add(std::span<const std::int32_t> span_of_row, std::span<const float> row_weights,
           std::span<const double> row_values);

  /// count() and weights() for all batches of a step at once, by TokenBatch::spans, in place: the weights of a batch
  /// become weight_s a_i / denominator_s. The loss is then the plain sum over rows (GradientSettings::spans), not a
  /// mean. InputError: a batch without span numbers.
  void weigh(std::span<TokenBatch> step);

  /// The parts of weigh() for a step that several ranks share: each span's sum of weights in one batch, made ready for
  /// weigh_by (InputError as weigh); then its weights by the sums of the whole step.
  std::vector<double> sums_of(TokenBatch& batch);
  void weigh_by(std::span<const double> sums, std::span<TokenBatch> mine);

  /// The spans in order, with what count() and add() saw of this step.
  const std::vector<SpanLoss>& losses() const { return spans_; }
  /// The step's loss: sum over spans of weight * loss.mean().
  double loss() const;

 private:
  void count_batch(TokenBatch& batch);
  std::size_t checked(std::span<const std::int32_t> span_of_row, std::span<const float> row_weights) const;

  std::vector<SpanLoss> spans_;
  bool fixed_ = false;
};

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/train/spans_inl.hpp"
#endif

#endif
