// SPDX-License-Identifier: Apache-2.0
// Body of perplexity.hpp that does not depend on a model.
#ifndef KDLIB_EVAL_RATIO_ERROR_INL_HPP
#define KDLIB_EVAL_RATIO_ERROR_INL_HPP

#include <cmath>
#include <limits>

#include "kdlib/core/error.hpp"
#include "kdlib/eval/perplexity.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_FUNC double ratio_error(std::span<const double> sums, std::span<const double> weights) {
  require<ShapeError>(sums.size() == weights.size(), "[ratio_error] ", sums.size(), " sums and ", weights.size(),
                      " weights; they must be as many");
  double sum = 0, weight = 0, squares = 0;
  for (const double x : sums) sum += x;
  for (const double x : weights) weight += x;
  const auto n = static_cast<double>(sums.size());
  if (n < 2 || weight <= 0) return std::numeric_limits<double>::quiet_NaN();
  for (std::size_t i = 0; i < sums.size(); ++i) {
    const double rest = sums[i] - sum / weight * weights[i];
    squares += rest * rest;
  }
  return std::sqrt(n / (n - 1) * squares) / weight;
}

KDLIB_NAMESPACE_END

#endif
