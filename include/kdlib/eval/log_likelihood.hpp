// SPDX-License-Identifier: Apache-2.0
// Computes log-likelihoods of given continuations, in batches. If several texts of a group begin alike (with the
// question of a multiple choice), the common beginning is run once and stays in the cache for all of them.
#ifndef KDLIB_EVAL_LOG_LIKELIHOOD_HPP
#define KDLIB_EVAL_LOG_LIKELIHOOD_HPP

#include <functional>

#include "kdlib/eval/perplexity.hpp"

KDLIB_NAMESPACE_BEGIN

/// A text to score: log p(continuation | context). The context must hold at least one token; for a text without
/// context, give the token that begins every text.
struct ScoredText {
  std::vector<std::int32_t> context, continuation;
};

/// Settings of log_likelihoods().
struct LikelihoodSettings {
  std::int64_t tokens = 4096;       // >= 1, places of the cache for texts run together; a longer text still runs
  std::int64_t context_length = 0;  // tokens of the longest input; 0: the model's. Longer texts lose their beginning
  std::int64_t workspace_bytes = std::int64_t{256} << 20;  // for chunks of logits
  std::function<void(std::int64_t done, std::int64_t total)>
      progress{};  // counts groups, called after each batch. An exception of `progress` ends the scoring
};

/// Returns the natural log-likelihood of each text, in the order of the groups and of the texts in a group. The last
/// token of a text is never run. Of a text that is too long only the last context_length + 1 tokens are used, as in
/// lm-evaluation-harness. An empty continuation has log-likelihood 0. InputError: a context is empty, a continuation is
/// longer than the context length, or an id is outside the vocabulary.
template <class M>
std::vector<std::vector<double>> log_likelihoods(M& model, std::span<const std::vector<ScoredText>> groups,
                                                 const LikelihoodSettings& settings = {});

/// One window over a long text. The last targets.size() rows of `input` score the targets.
struct RollingWindow {
  std::vector<std::int32_t> input, targets;  // the last targets.size() rows of `input` predict `targets`
};

/// Returns windows in which every token of `ids` is scored once, in order. The input of the first window begins with
/// `first_token`; the input of each later window begins with the last token of the window before. The last window is
/// extended to the left, so that its input has `length` tokens if the text is long enough (lm-evaluation-harness,
/// context_len = 1). ConfigError: `length` is below 1.
std::vector<RollingWindow> rolling_windows(std::span<const std::int32_t> ids, std::int32_t first_token,
                                           std::int64_t length);

/// Returns for each text the sum of the natural log-probabilities of all its tokens, over rolling windows of the
/// context length.
template <class M>
std::vector<double> rolling_log_likelihoods(M& model, std::span<const std::vector<std::int32_t>> texts,
                                            std::int32_t first_token, const LikelihoodSettings& settings = {});

KDLIB_NAMESPACE_END

#include "kdlib/eval/log_likelihood_inl.hpp"

#endif
