// SPDX-License-Identifier: Apache-2.0
// Bodies of objective.hpp.
#ifndef KDLIB_RECIPE_OBJECTIVE_INL_HPP
#define KDLIB_RECIPE_OBJECTIVE_INL_HPP

#include <algorithm>
#include <cmath>

#include "kdlib/core/settings_error.hpp"
#include "kdlib/loss/any_sum.hpp"
#include "kdlib/recipe/objective.hpp"
#include "kdlib/rollout/concepts.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_FUNC LossExpression measured_objective(const LossExpression& trained) {
  LossExpression out = trained;
  for (AnyTerm& term : out.terms) {
    bool sampled = false;
    term.loss.visit([&](const auto& loss) { sampled = sampled_text_use(loss).reads_sampled_tokens; });
    if (sampled) {
      term.loss = ReverseKl{};
    } else if (term.loss.is<JensenShannon>()) {
      const auto jsd = term.loss.as<JensenShannon>();
      if (jsd.beta == 0) term.loss = ForwardKl{.temperature = jsd.temperature, .t_squared = jsd.t_squared};
      if (jsd.beta == 1) term.loss = ReverseKl{.temperature = jsd.temperature, .t_squared = jsd.t_squared};
    }
  }
  return out;
}

KDLIB_FUNC LossExpression top_k_objective(const LossExpression& trained, TopKMass mass) {
  LossExpression out = trained;
  for (AnyTerm& term : out.terms) {
    if (term.loss.is<ForwardKl>()) {
      const auto kl = term.loss.as<ForwardKl>();
      term.loss = TopKForwardKl{.temperature = kl.temperature, .t_squared = kl.t_squared, .mass = mass};
    } else if (term.loss.is<ReverseKl>()) {
      const auto kl = term.loss.as<ReverseKl>();
      require<ConfigError>(mass == TopKMass::tail || mass == TopKMass::renormalised, "[distil] --mass ",
                           recipe_word(mass),
                           " with reverse_kl is no loss: it is smallest where the student leaves "
                           "the teacher's tokens; use tail or renormalised");
      if (mass == TopKMass::tail)
        term.loss = TopKReverseKl<TopKMass::tail>{.temperature = kl.temperature, .t_squared = kl.t_squared};
      else term.loss = TopKReverseKl<TopKMass::renormalised>{.temperature = kl.temperature, .t_squared = kl.t_squared};
    }
  }
  return out;
}

KDLIB_FUNC LossExpression blended_loss(LossExpression loss, double alpha) {
  require<ConfigError>(alpha > 0 && alpha <= 1, "[blended_loss] alpha is ", setting_text(alpha),
                       "; it must be above 0 and at most 1");
  if (alpha == 1) return loss;
  for (AnyTerm& term : loss.terms) term.weight *= alpha;
  loss.terms.insert(loss.terms.begin(), AnyTerm{1 - alpha, CrossEntropy{}});
  require<ConfigError>(loss.terms.size() <= 8, "[blended_loss] the loss has ", loss.terms.size() - 1,
                       " terms; with the labels' there may be 8");
  return loss;
}

KDLIB_FUNC double top_k_temperature(const LossExpression& objective) {
  double found = 0;
  for (const AnyTerm& term : objective.terms)
    term.loss.visit([&found]<class L>(const L& loss) {
      if constexpr (reads_support<L>) {
        require<ConfigError>(found == 0 || found == temperature_of(loss),
                             "[distil] the loss has terms at temperatures ", found, " and ", temperature_of(loss),
                             "; from a top-k cache all have one");
        found = temperature_of(loss);
      }
    });
  return found;
}

KDLIB_FUNC std::string objective_text(const RecipeObjective& s) { return measured_objective(s.loss).text(); }

KDLIB_FUNC bool is_divergence(const RecipeObjective& s) {
  const LossExpression measured = measured_objective(s.loss);
  return std::all_of(measured.terms.begin(), measured.terms.end(),
                     [](const AnyTerm& term) { return term.loss.needs() == LossNeeds::vocabulary; });
}

KDLIB_FUNC double RecipeRate::operator()(std::int64_t step) const {
  if (kind == RecipeSchedule::linear) return linear(step);
  if (kind == RecipeSchedule::cosine) return cosine(step);
  return step < linear.warmup ? linear.peak * static_cast<double>(step + 1) / static_cast<double>(linear.warmup)
                              : linear.peak;
}

KDLIB_FUNC SettingsList RecipeRate::describe() const {
  SettingsList list = kind == RecipeSchedule::cosine ? cosine.describe() : linear.describe();
  list.emplace_back("schedule.kind", recipe_word(kind));
  return list;
}

KDLIB_FUNC RecipeTraining stage_training(const RecipeTraining& training, const RecipeStage& stage, std::int64_t steps) {
  require<SettingsError>(!stage.warmup || *stage.warmup <= steps, "[distil] stage ", stage.name, ": warmup is ",
                         stage.warmup.value_or(0), " and the stage has ", steps,
                         " steps; warm-up steps are among them");
  RecipeTraining out = training;
  out.steps = steps;
  out.learning_rate = stage.learning_rate.value_or(training.learning_rate);
  out.schedule = stage.schedule.value_or(training.schedule);
  if (stage.warmup) out.warmup = *stage.warmup, out.warmup_ratio = 0;
  out.warmup = std::min(out.warmup, steps);
  return out;
}

KDLIB_FUNC std::int64_t warmup_steps(const RecipeTraining& s) {
  if (s.warmup_ratio <= 0) return s.warmup;
  return static_cast<std::int64_t>(std::ceil(s.warmup_ratio * static_cast<double>(s.steps) * (1 - 1e-12)));
}

KDLIB_FUNC RecipeRate recipe_rate(const RecipeTraining& s) {
  const std::int64_t warmup = warmup_steps(s);
  return {s.schedule,
          {.peak = s.learning_rate, .warmup = warmup, .total = s.steps},
          {.peak = s.learning_rate, .warmup = warmup, .total = s.steps}};
}

KDLIB_NAMESPACE_END

#endif
