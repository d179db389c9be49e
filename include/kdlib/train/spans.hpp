// SPDX-License-Identifier: Apache-2.0
// Named spans of tokens, such as reasoning, answer, tool calls or prompt. Each span has a separate mean in the loss of
// a step. The caller decides in which span a token is.
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
  std::string name;   // name in reports; not empty, different for each span
  double weight = 1;  // >= 0
};

/// The loss of a span in a step: loss.sum is the sum over the rows of the span, loss.weight its denominator.
struct SpanLoss {
  std::string name;
  double weight = 1;  // weight of the span in the step's loss
  LossSum loss;
};

/// Forms row weights so that the loss of a step is the sum over spans s of weight_s * (sum of a_r loss_r over the rows
/// r of span s) / (sum of a_r over the rows of span s in the WHOLE step). a_r are the original weights of the rows.
/// Each denominator is fixed before the first pass, so that the division of the rows into micro-batches changes
/// nothing. A span without rows in a step adds 0. A step looks like this:
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
/// span_of_row [R] holds the number of each row's span, or -1 for rows that do not count. row_weights [R] holds the
/// weights a_r; an empty list means that all are 1.
class SpanWeights {
 public:
  /// ConfigError: there are no spans, a name is empty or given twice, or a weight is negative or not finite.
  explicit SpanWeights(std::vector<Span> spans);

  void begin_step();
  /// Adds rows to the denominators. ConfigError: weights() was called before in this step, so that a denominator would
  /// change between two passes.
  void count(std::span<const std::int32_t> span_of_row, std::span<const float> row_weights = {});
  std::vector<float> weights(std::span<const std::int32_t> span_of_row, std::span<const float> row_weights = {});
  void add(std::span<const std::int32_t> span_of_row, std::span<const float> row_weights,
           std::span<const double> row_values);

  /// Does begin_step(), count() and weights() for all batches of a step at once, with the span numbers of
  /// TokenBatch::spans. The weights in the batches are replaced by weight_s a_i / denominator_s. The loss is then the
  /// plain sum over rows, not a mean (GradientSettings::spans). InputError: a batch has no span numbers.
  void weigh(std::span<TokenBatch> step);

  /// The two parts of weigh() for a step that several ranks share. sums_of() returns the sum of row weights of each
  /// span in one batch (InputError as in weigh()). weigh_by() replaces the weights in this rank's batches, given the
  /// sums of the whole step.
  std::vector<double> sums_of(TokenBatch& batch);
  void weigh_by(std::span<const double> sums, std::span<TokenBatch> mine);

  /// Returns the spans in order, with the sums of count() and add() in this step.
  const std::vector<SpanLoss>& losses() const { return spans_; }
  /// Returns the loss of the step: the sum over spans of weight * loss.mean().
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
