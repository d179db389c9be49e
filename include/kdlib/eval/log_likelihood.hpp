// SPDX-License-Identifier: Apache-2.0
// Log-likelihoods of given continuations, in batches. What several of them begin with (the question of a multiple
// choice) is run once and stays in the cache for all of them.
#ifndef KDLIB_EVAL_LOG_LIKELIHOOD_HPP
#define KDLIB_EVAL_LOG_LIKELIHOOD_HPP

#include <functional>

#include "kdlib/eval/perplexity.hpp"

KDLIB_NAMESPACE_BEGIN

/// log p(continuation | context). The context holds one token or more, for a text without context the one that begins
/// every text.
struct ScoredText {
  std::vector<std::int32_t> context, continuation;
};

/// How log_likelihoods runs its texts.
struct LikelihoodSettings {
  std::int64_t tokens = 4096;       // places of the cache: how much is run together; a longer text still runs
  std::int64_t context_length = 0;  // longest input; 0: the model's. What is longer loses its beginning
  std::int64_t workspace_bytes = std::int64_t{256} << 20;  // for chunks of logits
  std::function<void(std::int64_t done, std::int64_t total)>
      progress{};  // groups, after each batch. What it throws ends the scoring
};

/// Sums of natural logarithms, in the order of the groups and of the texts in each. The last token of a text is never
/// run; of a text longer than the context the last context_length + 1 tokens count, as lm-evaluation-harness cuts. An
/// empty continuation has log-likelihood 0. InputError: an empty context, a continuation longer than the context
/// length, ids outside the vocabulary.
template <class M>
std::vector<std::vector<double>> log_likelihoods(M& model, std::span<const std::vector<ScoredText>> groups,
                                                 const LikelihoodSettings& settings = {});

/// One window over a long text: targets.size() tokens at the end of the input's rows are scored.
struct RollingWindow {
  std::vector<std::int32_t> input, targets;  // the last targets.size() rows of `input` predict `targets`
};

/// Windows in which every token is scored once, in order: the first begins with `first_token`, each later one with the
/// last token of the one before, and the last is filled up to the left (lm-evaluation-harness, context_len = 1). length
/// >= 1.
std::vector<RollingWindow> rolling_windows(std::span<const std::int32_t> ids, std::int32_t first_token,
                                           std::int64_t length);

/// Sum of the natural log-probabilities of all tokens of each text, over rolling windows of the context length.
template <class M>
std::vector<double> rolling_log_likelihoods(M& model, std::span<const std::vector<std::int32_t>> texts,
                                            std::int32_t first_token, const LikelihoodSettings& settings = {});

KDLIB_NAMESPACE_END

#include "kdlib/eval/log_likelihood_inl.hpp"

#endif
