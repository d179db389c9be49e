// SPDX-License-Identifier: Apache-2.0
// Bodies of any_loss.hpp.
#ifndef KDLIB_LOSS_ANY_LOSS_INL_HPP
#define KDLIB_LOSS_ANY_LOSS_INL_HPP

#include <algorithm>

#include "kdlib/loss/any_loss.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_FUNC LossNeeds combined_needs(LossNeeds a, LossNeeds b) {
  const LossNeeds more = std::max(a, b), less = std::min(a, b);
  require<ConfigError>(
      more != LossNeeds::top_k || less == LossNeeds::top_k || less == LossNeeds::labels,
      "[loss] a loss on the teacher's top-k stands in one sum with one that reads ",
      less == LossNeeds::vocabulary ? "the teacher's whole distribution" : "the teacher's log-probability of the token",
      ": top-k targets do not tell that. Use top-k losses, cross-entropy and regularisers together, or none on the "
      "top-k");
  return more;
}

KDLIB_NAMESPACE_END

#endif
