// SPDX-License-Identifier: Apache-2.0
// The part of canary.hpp that knows the model's type.
#ifndef KDLIB_RECIPE_CANARY_BODY_INL_HPP
#define KDLIB_RECIPE_CANARY_BODY_INL_HPP

#include <limits>

#include "kdlib/recipe/canary.hpp"

KDLIB_NAMESPACE_BEGIN

template <class M>
CanaryReport evaluate_canary(M& model, const CanaryLines& lines, const CanarySettings& settings) {
  constexpr double none = std::numeric_limits<double>::quiet_NaN();
  CanaryReport report{none, none, none, none};
  if (!lines.texts.empty()) {
    TokenBatch batch;
    for (const auto& ids : lines.texts) batch.append(ids);
    double sum = 0;
    const std::vector<double> log_probs = token_log_probs(model, batch);
    for (const double x : log_probs) sum -= x;
    report.loss = sum / static_cast<double>(log_probs.size());
  }
  if (lines.prompts.empty()) return report;
  const Sampler sampler{.temperature = 0, .max_new_tokens = settings.max_new_tokens, .stop_ids = settings.stop_ids};
  report.valid = report.length = report.repeat = 0;
  const auto n = static_cast<double>(lines.prompts.size());
  for (const Completion& c : generate(model, lines.prompts, sampler, {.context_length = settings.context_length})) {
    report.valid += c.stopped && settings.valid && settings.valid(c.ids) ? 1 / n : 0;
    report.length += static_cast<double>(c.ids.size()) / n;
    report.repeat += repeated_fours(c.ids) / n;
  }
  return report;
}

KDLIB_NAMESPACE_END

#endif
