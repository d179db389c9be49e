// SPDX-License-Identifier: Apache-2.0
// What a loss reads, in words (any_sum.hpp).
#ifndef KDLIB_LOSS_LOSS_NEEDS_INL_HPP
#define KDLIB_LOSS_LOSS_NEEDS_INL_HPP

#include "kdlib/core/error.hpp"
#include "kdlib/loss/any_sum.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {

KDLIB_FUNC const char* needs_text(LossNeeds needs) {
  switch (needs) {
    case LossNeeds::labels:
      return "the next token of the text";
    case LossNeeds::sampled_tokens:
      return "the teacher's log-probability of each token that was drawn: a live teacher, or text that was rescored";
    case LossNeeds::vocabulary:
      return "the teacher's whole distribution: a live teacher, or a cache of its hidden states";
    default:
      return "the teacher's top-k of each row with its log-probabilities: a teacher that is cached as top-k";
  }
}

}  // namespace detail

KDLIB_FUNC void require_targets(LossNeeds have, std::span<const AnyTerm> terms) {
  LossNeeds needs = LossNeeds::labels;
  for (const AnyTerm& term : terms) needs = combined_needs(needs, term.loss.needs());
  for (const AnyTerm& term : terms)
    require<ConfigError>(detail::tells(have, term.loss.needs()), "[loss] ", term.loss.name(), " reads ",
                         detail::needs_text(term.loss.needs()), ". Here there is ", detail::needs_text(have));
}

KDLIB_NAMESPACE_END

#endif
