// SPDX-License-Identifier: Apache-2.0
// Settings of the objective and the rate as the types that a Trainer takes.
#ifndef KDLIB_RECIPE_OBJECTIVE_HPP
#define KDLIB_RECIPE_OBJECTIVE_HPP

#include <algorithm>
#include <cmath>

#include "kdlib/loss/forward_kl.hpp"
#include "kdlib/loss/jensen_shannon.hpp"
#include "kdlib/loss/reverse_kl.hpp"
#include "kdlib/optim/schedule.hpp"
#include "kdlib/recipe/settings.hpp"

KDLIB_NAMESPACE_BEGIN

/// Calls f(loss) with the loss that the settings name; this is the only place where the choice becomes a type.
template <class F>
auto with_loss(const RecipeObjective& s, F&& f) {
  const auto temperature = static_cast<float>(s.temperature);
  const bool t_squared = s.t_squared.value_or(s.temperature != 1), jsd = s.loss == RecipeLossKind::jsd;
  if (s.loss == RecipeLossKind::forward_kl || (jsd && s.beta == 0))
    return f(ForwardKl{.temperature = temperature, .t_squared = t_squared});
  if (s.loss == RecipeLossKind::reverse_kl || (jsd && s.beta == 1))
    return f(ReverseKl{.temperature = temperature, .t_squared = t_squared});
  return f(JensenShannon{.beta = static_cast<float>(s.beta), .temperature = temperature, .t_squared = t_squared});
}

/// What is trained, as tables and reports name it: "forward_kl", "jsd(beta=0.5, temperature=2)".
inline std::string objective_text(const RecipeObjective& s) {
  const bool jsd = s.loss == RecipeLossKind::jsd && s.beta > 0 && s.beta < 1;
  std::string name = jsd ? "jsd" : recipe_word(s.loss), fields;
  if (s.loss == RecipeLossKind::jsd && !jsd) name = s.beta == 0 ? "forward_kl" : "reverse_kl";
  if (jsd) fields = concat("beta=", detail::shortest_text(s.beta));
  if (s.temperature != 1)
    fields += concat(fields.empty() ? "" : ", ", "temperature=", detail::shortest_text(s.temperature));
  return fields.empty() ? name : concat(name, "(", fields, ")");
}

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
