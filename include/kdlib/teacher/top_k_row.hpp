// SPDX-License-Identifier: Apache-2.0
// The K most probable tokens of one row of logits, with the exact mass of all others at several temperatures.
#ifndef KDLIB_TEACHER_TOP_K_ROW_HPP
#define KDLIB_TEACHER_TOP_K_ROW_HPP

#include <cstdint>
#include <span>
#include <vector>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN

/// One row of a cache. With lp = log p at temperature 1: log p_T = lp / T - log_norm of T, for every token.
struct TopKRow {
  std::vector<std::int32_t> ids;  // [K] the most probable first, of equals the lower id
  std::vector<float> log_probs;   // [K] natural, at temperature 1
  std::vector<float> log_norm;    // [temperatures] log sum_v exp(lp_v / T)
  std::vector<float> log_tail;    // [temperatures] log of the mass outside the K at T; -infinity for none
  float label_log_prob = 0;       // of the row's next token, at temperature 1
  bool finite = true;             // false where a logit is NaN or an infinity; all else is then not to be used
};

/// `logits` [V]: K of 1 to V; they are overwritten. `temperatures` as CacheSettings has them. The tail
/// is a sum over the other tokens, not 1 minus the sum over the K; floats are added in blocks of 256, these in double.
template <class T>
TopKRow top_k_row(std::span<T> logits, std::int64_t top_k, std::span<const double> temperatures, std::int32_t label);

KDLIB_NAMESPACE_END

#include "kdlib/teacher/top_k_row_inl.hpp"

#endif
