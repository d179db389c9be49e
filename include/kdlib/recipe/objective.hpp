// SPDX-License-Identifier: Apache-2.0
// Settings of the objective and the rate as the types that a Trainer takes.
#ifndef KDLIB_RECIPE_OBJECTIVE_HPP
#define KDLIB_RECIPE_OBJECTIVE_HPP

#include <algorithm>
#include <cmath>

#include "kdlib/loss/any_sum.hpp"
#include "kdlib/optim/schedule.hpp"
#include "kdlib/recipe/settings.hpp"

KDLIB_NAMESPACE_BEGIN

/// The loss whose held-out value judges a run: the one that is trained, or forward KL where a term is about tokens that
/// the student drew, since held-out text has none.
inline LossExpression judging_loss(const RecipeObjective& s) {
  for (const AnyTerm& term : s.loss.terms)
    if (term.loss.needs() == LossNeeds::sampled_tokens) return LossExpression{};
  return s.loss;
}

/// Its name in tables and reports: "forward_kl", "jsd(temperature=2)".
inline std::string objective_text(const RecipeObjective& s) { return judging_loss(s).text(); }

/// The rate of a step, of any of the courses that the settings offer. A Schedule.
struct RecipeRate {
  RecipeSchedule kind = RecipeSchedule::linear;
  WarmupLinear linear{};
  WarmupCosine cosine{};

  double operator()(std::int64_t step) const {
    if (kind == RecipeSchedule::linear) return linear(step);
    if (kind == RecipeSchedule::cosine) return cosine(step);
    return step < linear.warmup ? linear.peak * static_cast<double>(step + 1) / static_cast<double>(linear.warmup)
                                : linear.peak;
  }
  SettingsList describe() const {
    SettingsList list = kind == RecipeSchedule::cosine ? cosine.describe() : linear.describe();
    list.emplace_back("schedule.kind", recipe_word(kind));
    return list;
  }
};

inline RecipeRate recipe_rate(const RecipeTraining& s) {
  const auto share = static_cast<std::int64_t>(std::ceil(s.warmup_ratio * static_cast<double>(s.steps)));
  const std::int64_t warmup = std::min(s.warmup_ratio > 0 ? share : s.warmup, s.steps);
  return {s.schedule,
          {.peak = s.learning_rate, .warmup = warmup, .total = s.steps},
          {.peak = s.learning_rate, .warmup = warmup, .total = s.steps}};
}

KDLIB_NAMESPACE_END

#endif
