// SPDX-License-Identifier: Apache-2.0
// Finds the K most probable tokens of one row of logits, and the exact probability mass of all other tokens at several
// temperatures.
#ifndef KDLIB_TEACHER_TOP_K_ROW_HPP
#define KDLIB_TEACHER_TOP_K_ROW_HPP

#include <cstdint>
#include <span>
#include <vector>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN

/// One row of a top-k cache. With lp = log p of a token at temperature 1, its log-probability at temperature T is log
/// p_T = lp / T - log_norm(T).
struct TopKRow {
  std::vector<std::int32_t> ids;  // [K] the most probable token first; of equally probable tokens the lower id first
  std::vector<float> log_probs;   // [K] natural logarithms, at temperature 1
  std::vector<float> log_norm;    // [temperatures] log sum_v exp(lp_v / T)
  std::vector<float> log_tail;  // [temperatures] log of the mass outside the K tokens at T; -infinity if this mass is 0
  float label_log_prob = 0;     // log-probability of the row's next token, at temperature 1
  bool finite = true;           // false if a logit is NaN or an infinity; the other members are then invalid
};

/// Reads one row of `logits` [V] and overwrites it. `top_k` (K) is 1 to V; `temperatures` ascend as in CacheSettings;
/// `label` is the row's next token. The mass of the tail is the sum over the other tokens, not 1 minus the sum over the
/// K. Logits in float are added in blocks of 256, and the sums of the blocks in double.
template <class T>
TopKRow top_k_row(std::span<T> logits, std::int64_t top_k, std::span<const double> temperatures, std::int32_t label);

KDLIB_NAMESPACE_END

#include "kdlib/teacher/top_k_row_inl.hpp"

#endif
