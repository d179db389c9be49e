// SPDX-License-Identifier: Apache-2.0
// Measures whether a model is right as often as its probabilities say.
#ifndef KDLIB_EVAL_CALIBRATION_HPP
#define KDLIB_EVAL_CALIBRATION_HPP

#include "kdlib/eval/perplexity.hpp"

KDLIB_NAMESPACE_BEGIN

/// The rows whose largest probability lies in (i / bins, (i + 1) / bins]: sum of weights, and weighted means of the
/// largest probability (confidence) and of being right (accuracy).
struct CalibrationBin {
  double weight = 0, confidence = 0, accuracy = 0;
};

/// How well the probabilities of a model fit how often it is right.
struct Calibration {
  double tokens = 0;      // sum of the weights of the rows
  double error = 0;       // expected calibration error: sum over bins of weight share * |accuracy - confidence|
  double confidence = 0;  // mean probability of the most probable token
  double accuracy = 0;    // share of rows whose next token is the most probable one (lowest id on ties)
  std::vector<CalibrationBin> bins;
};

/// Returns the expected calibration error of next-token prediction on documents with weights, with bins of equal width
/// (Guo et al., 2017, arXiv:1706.04599). If no row counts, all numbers are 0. ConfigError: bins is below 1.
template <class M>
Calibration calibration(M& model, const TokenBatch& documents, std::int64_t bins = 15,
                        const EvaluationSettings& settings = {});

KDLIB_NAMESPACE_END

#include "kdlib/eval/calibration_inl.hpp"

#endif
