// SPDX-License-Identifier: Apache-2.0
// Measures how well a model predicts given text.
#ifndef KDLIB_EVAL_PERPLEXITY_HPP
#define KDLIB_EVAL_PERPLEXITY_HPP

#include "kdlib/core/communicator.hpp"
#include "kdlib/loss/concepts.hpp"
#include "kdlib/tensor/token_batch.hpp"

KDLIB_NAMESPACE_BEGIN

/// Settings of perplexity(), agreement(), calibration() and similar evaluations.
struct EvaluationSettings {
  std::int64_t tokens = 2048;                              // >= 1, run together; a longer document is run as a whole
  std::int64_t workspace_bytes = std::int64_t{256} << 20;  // for chunks of logits
  bool replay_routing = false;  // the model uses the experts that the documents' routing names, if they have one; a
                                // teacher's router chooses itself. ConfigError: the model has no mixture of experts
  // The ranks that divide the groups of documents among themselves, for agreement(), perplexity(), label_loss() and
  // teacher_loss(). All ranks must call with the same documents. They get the numbers of one rank, bit for bit. If one
  // rank is asked to stop, all ranks stop.
  AnyCommunicator ranks{};
};

/// The log-probability of held-out text.
struct Perplexity {
  double tokens = 0;    // sum of the weights of the rows
  double log_prob = 0;  // mean natural log-probability over rows: sum of weight * log p / sum of weight

  double value() const;  // exp(-log_prob); 1 if no row counts
};

/// Returns the standard error of r = sum(sums) / sum(weights) over n documents. Documents are taken as independent of
/// each other; tokens of one document are not. The formula is the linearised ratio estimator, sqrt(n / (n - 1) sum_i
/// (s_i - r w_i)^2) / sum_i w_i, with s_i and w_i the sum and the weight of document i (Cochran, Sampling Techniques,
/// 1977, ch. 6). NaN for fewer than two documents or without weight. ShapeError: the lengths differ.
double ratio_error(std::span<const double> sums, std::span<const double> weights);

/// Returns the sum over the rows that count of a loss that reads only the next token.
template <class M, class Loss>
LossSum label_loss(M& model, const TokenBatch& documents, const Loss& loss, const EvaluationSettings& settings = {});

/// Returns the perplexity over the rows that count: the log-probability of the label (next token) of each row. If no
/// row counts, tokens and log_prob are 0.
template <class M>
Perplexity perplexity(M& model, const TokenBatch& documents, const EvaluationSettings& settings = {});

/// Returns the natural log-probability of every token but the first of each document, documents end to end: [N - B] for
/// N tokens in B documents. Weights are ignored.
template <class M>
std::vector<double> token_log_probs(M& model, const TokenBatch& documents, const EvaluationSettings& settings = {});

/// Returns the natural log-probability of the label of each row, [R], for hidden [R, H] and labels [R].
template <class T, class D>
std::vector<double> row_log_probs(const HeadView<T, D>& head, View<const T, D> hidden,
                                  std::span<const std::int32_t> labels, const EvaluationSettings& settings = {});

KDLIB_NAMESPACE_END

#include "kdlib/eval/perplexity_inl.hpp"
#if KDLIB_HEADER_ONLY
#include "kdlib/eval/ratio_error_inl.hpp"
#endif

#endif
