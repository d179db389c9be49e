// SPDX-License-Identifier: Apache-2.0
// Accuracy of multiple choice from log-likelihoods, with its standard error.
#ifndef KDLIB_EVAL_MULTIPLE_CHOICE_HPP
#define KDLIB_EVAL_MULTIPLE_CHOICE_HPP

#include <cstdint>
#include <span>
#include <vector>

#include "kdlib/core/error.hpp"

KDLIB_NAMESPACE_BEGIN

/// What is right, and by what acc_norm divides.
struct ChoiceKey {
  std::int64_t gold = 0;              // index of the right choice
  std::vector<std::int64_t> lengths;  // characters of each choice
};

/// acc: the gold choice has the highest log-likelihood; acc_norm: the highest one per character. The first wins a tie;
/// a choice of length 0 is never the highest per character.
struct ChoiceScore {
  bool acc = false, acc_norm = false;
};
ChoiceScore score_choice(std::span<const double> log_likelihoods, const ChoiceKey& key);

/// A mean over documents with its standard error, sample deviation / sqrt(n) (NaN for fewer than two documents).
struct MeanError {
  double mean = 0, error = 0;
  std::int64_t count = 0;
};
MeanError mean_and_error(std::span<const double> values);

/// Groups taken together: means weighted by size, and the error of the pooled sample variance (lm-evaluation-harness).
/// Groups of one document have no error, and then the whole has none (NaN).
MeanError pool(std::span<const MeanError> groups);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/eval/multiple_choice_inl.hpp"
#endif

#endif
