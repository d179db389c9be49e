// SPDX-License-Identifier: Apache-2.0
// How well a model predicts given text.
#ifndef KDLIB_EVAL_PERPLEXITY_HPP
#define KDLIB_EVAL_PERPLEXITY_HPP

#include "kdlib/core/communicator.hpp"
#include "kdlib/loss/concepts.hpp"
#include "kdlib/tensor/token_batch.hpp"

KDLIB_NAMESPACE_BEGIN

/// How perplexity, agreement and calibration run their documents.
struct EvaluationSettings {
  std::int64_t tokens = 2048;                              // run together; a longer document still runs as a whole
  std::int64_t workspace_bytes = std::int64_t{256} << 20;  // for chunks of logits
  bool replay_routing = false;  // tokens go to the experts that the documents' routing names, where they have one; a
                                // teacher's router chooses itself. ConfigError: the model has no mixture of experts
  // agreement, perplexity, label_loss and teacher_loss: ranks that share the groups of documents. All of them call with
  // the same documents and get the numbers of one rank, bit for bit; all stop where one was asked to.
  AnyCommunicator ranks{};
};

/// The log-probability of held-out text.
struct Perplexity {
  double tokens = 0;    // weight of the rows
  double log_prob = 0;  // natural, mean over rows: sum of weight * log p / weight

  double value() const;  // exp(-log_prob); 1 without rows
};

/// Standard error of sum(sums) / sum(weights) over documents, which are drawn independently (tokens of one document are
/// not): the linearised ratio estimator, sqrt(n / (n - 1) sum (s_i - r w_i)^2) / sum w_i (Cochran, Sampling Techniques,
/// 1977, ch. 6). NaN for fewer than two documents.
double ratio_error(std::span<const double> sums, std::span<const double> weights);

/// The sum of a loss that reads the next token alone, over the rows that count.
template <class M, class Loss>
LossSum label_loss(M& model, const TokenBatch& documents, const Loss& loss, const EvaluationSettings& settings = {});

/// Over the rows that count (documents with weights: the label of each row). Weight 0 is answered with zeros.
template <class M>
Perplexity perplexity(M& model, const TokenBatch& documents, const EvaluationSettings& settings = {});

/// Natural log-probability of every token but the first of each document, documents end to end: [N - B], in order.
/// Weights do not matter.
template <class M>
std::vector<double> token_log_probs(M& model, const TokenBatch& documents, const EvaluationSettings& settings = {});

/// Natural log-probability of each row's label: hidden [R, H], labels [R]; answers [R].
template <class T, class D>
std::vector<double> row_log_probs(const HeadView<T, D>& head, View<const T, D> hidden,
                                  std::span<const std::int32_t> labels, const EvaluationSettings& settings = {});

KDLIB_NAMESPACE_END

#include "kdlib/eval/perplexity_inl.hpp"
#if KDLIB_HEADER_ONLY
#include "kdlib/eval/ratio_error_inl.hpp"
#endif

#endif
