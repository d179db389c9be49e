// SPDX-License-Identifier: Apache-2.0
// Bodies of sampler.hpp that do not depend on the type of the logits.
#ifndef KDLIB_ROLLOUT_SAMPLER_CHECKS_INL_HPP
#define KDLIB_ROLLOUT_SAMPLER_CHECKS_INL_HPP

#include <algorithm>
#include <cmath>

#include "kdlib/core/error.hpp"
#include "kdlib/rollout/sampler.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_FUNC void Sampler::check() const {
  const double t = temperature.value();
  require<ConfigError>(std::isfinite(t) && t >= 0, "[Sampler] temperature is ", t,
                       "; it must be 0 (most probable token) or more");
  require<ConfigError>(top_k >= 0, "[Sampler] top_k is ", top_k, "; it must be 0 (off) or more");
  require<ConfigError>(top_p > 0 && top_p <= 1, "[Sampler] top_p is ", top_p,
                       "; it must be above 0 and at most 1 (off)");
  require<ConfigError>(min_p >= 0 && min_p <= 1, "[Sampler] min_p is ", min_p, "; it must be from 0 (off) to 1");
  require<ConfigError>(max_new_tokens >= 1, "[Sampler] max_new_tokens is ", max_new_tokens, "; it must be 1 or more");
}

namespace detail {

KDLIB_FUNC void check_drawable(bool finite, bool any) {
  require(finite, "[sample] a logit is NaN or +inf: the model has diverged or its file is damaged");
  require(any, "[sample] every logit is -inf: nothing can be drawn");
}

KDLIB_FUNC SamplingCutoff rank_by_mass(std::vector<SamplerWorkspace::Candidate>& c, double target) {
  using Candidate = SamplerWorkspace::Candidate;
  const auto before = [](const Candidate& a, const Candidate& b) {
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
  };
  auto first = c.begin(), last = c.end();
  double mass = 0;
  while (last - first > 64) {
    const auto middle = first + (last - first) / 2;
    std::nth_element(first, middle, last, before);
    double half = 0;
    for (auto it = first; it != middle; ++it) half += static_cast<double>(it->weight);
    if (mass + half >= target) {
      last = middle;
    } else {
      mass += half;
      first = middle;
    }
  }
  std::sort(first, last, before);
  for (; first + 1 != last; ++first) {
    mass += static_cast<double>(first->weight);
    if (mass >= target) break;
  }
  return {first->logit, first->id};
}

KDLIB_FUNC std::int64_t invert_distribution(const SamplerWorkspace& w, std::int64_t count, double target) {
  double sum = 0;
  for (std::int64_t begin = 0, block = 0; begin < count; begin += sampler_block, ++block) {
    const double block_sum = w.block_sums[static_cast<std::size_t>(block)];
    if (sum + block_sum > target) {
      double running = sum;
      for (std::int64_t i = begin; i < std::min(begin + sampler_block, count); ++i) {
        running += static_cast<double>(w.weights[static_cast<std::size_t>(i)]);
        if (running > target && w.weights[static_cast<std::size_t>(i)] > 0) return i;
      }
    }
    sum += block_sum;
  }
  std::int64_t last = count - 1;
  while (last > 0 && w.weights[static_cast<std::size_t>(last)] <= 0) --last;
  return last;
}

}  // namespace detail

KDLIB_FUNC void check_sampling_matches_loss(const Sampler& sampler, const SampledTextUse& use) {
  if (sampler.draws_from_the_model()) return;
  if (use.reads_sampled_tokens) {
    require<ConfigError>(!sampler.greedy() && !sampler.truncates(),
                         "[sampling and loss] the loss estimates from drawn tokens, but the sampler ",
                         sampler.greedy() ? "takes the most probable token" : "cuts tokens off",
                         ": no weight can correct for tokens that are never drawn. Set top_k = 0, top_p = 1, min_p = 0 "
                         "and temperature = 1, or use a loss over the whole vocabulary");
    require<ConfigError>(use.corrects_by_ratio, "[sampling and loss] tokens are drawn at temperature ",
                         sampler.temperature.value(),
                         " but the loss reads them as if drawn at 1. Set the sampling temperature to 1 or correct by "
                         "the ratio to the recorded probabilities");
    return;
  }
  require<ConfigError>(!sampler.truncates() || use.accepts_truncated_text,
                       "[sampling and loss] the text is drawn with top_k = ", sampler.top_k,
                       ", top_p = ", sampler.top_p, ", min_p = ", sampler.min_p,
                       " but the loss is over the whole softmax. Set top_k = 0, top_p = 1, min_p = 0, or accept "
                       "truncated text explicitly");
}

KDLIB_NAMESPACE_END

#endif
