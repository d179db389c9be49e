// SPDX-License-Identifier: Apache-2.0
// Computes the accuracy of multiple choice from log-likelihoods, and its standard error.
#ifndef KDLIB_EVAL_MULTIPLE_CHOICE_HPP
#define KDLIB_EVAL_MULTIPLE_CHOICE_HPP

#include <cstdint>
#include <span>
#include <vector>

#include "kdlib/core/error.hpp"

KDLIB_NAMESPACE_BEGIN

/// The right choice of a question, and the lengths by which acc_norm divides.
struct ChoiceKey {
  std::int64_t gold = 0;              // index of the right choice
  std::vector<std::int64_t> lengths;  // length of each choice in characters
};

/// acc: the gold choice has the highest log-likelihood. acc_norm: the gold choice has the highest log-likelihood per
/// character. On a tie the first choice wins. A choice of length 0 has -infinity per character. score_choice() throws
/// ShapeError if the numbers of choices differ or are 0, and InputError if `gold` is no choice.
struct ChoiceScore {
  bool acc = false, acc_norm = false;
};
ChoiceScore score_choice(std::span<const double> log_likelihoods, const ChoiceKey& key);

/// A mean over n documents with its standard error, (sample deviation) / sqrt(n), which is NaN for fewer than two
/// documents.
struct MeanError {
  double mean = 0, error = 0;
  std::int64_t count = 0;
};
MeanError mean_and_error(std::span<const double> values);

/// Joins groups: the mean is weighted by the sizes of the groups, and the error is that of the pooled sample variance
/// (lm-evaluation-harness). A group of one document has the error NaN, and then the result has, too.
MeanError pool(std::span<const MeanError> groups);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/eval/multiple_choice_inl.hpp"
#endif

#endif
