// SPDX-License-Identifier: Apache-2.0
// Settings of the objective and the rate as the types that a Trainer takes.
#ifndef KDLIB_RECIPE_OBJECTIVE_HPP
#define KDLIB_RECIPE_OBJECTIVE_HPP

#include <algorithm>
#include <cmath>

#include "kdlib/loss/any_sum.hpp"
#include "kdlib/optim/schedule.hpp"
#include "kdlib/recipe/settings.hpp"
#include "kdlib/rollout/concepts.hpp"

KDLIB_NAMESPACE_BEGIN

/// The objective as it is measured on held-out text, which no student drew: an estimate from drawn tokens is measured
/// by the reverse KL that it estimates, and a jsd at its ends is the divergence that it is there.
inline LossExpression measured_objective(const LossExpression& trained) {
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

/// The objective for a teacher's top-k: forward and reverse KL become the forms that read it. The other terms stay;
/// what reads the whole vocabulary is refused where the targets are known (with_loss). ConfigError: reverse KL with the
/// mass rule raw.
inline LossExpression top_k_objective(const LossExpression& trained, TopKMass mass) {
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

/// alpha * loss + (1 - alpha) * cross_entropy, with alpha in (0, 1]; at 1 the loss itself. A factor T^2 is the
/// divergence's own (t_squared). Source: Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network"
/// (arXiv 1503.02531), section 2.
inline LossExpression blended_loss(LossExpression loss, double alpha) {
  require<ConfigError>(alpha > 0 && alpha <= 1, "[blended_loss] alpha is ", setting_text(alpha),
                       "; it must be above 0 and at most 1");
  if (alpha == 1) return loss;
  for (AnyTerm& term : loss.terms) term.weight *= alpha;
  loss.terms.insert(loss.terms.begin(), AnyTerm{1 - alpha, CrossEntropy{}});
  require<ConfigError>(loss.terms.size() <= 8, "[blended_loss] the loss has ", loss.terms.size() - 1,
                       " terms; with the labels' there may be 8");
  return loss;
}

/// The temperature of all terms on the teacher's top-k; 0: there is none. ConfigError where they differ: a cached row
/// is read at one.
inline double top_k_temperature(const LossExpression& objective) {
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

/// What is measured, as tables and reports name it: "forward_kl", "0.8 reverse_kl(temperature=2) + 0.2 cross_entropy".
inline std::string objective_text(const RecipeObjective& s) { return measured_objective(s.loss).text(); }

/// The measured objective is 0 where student and teacher are equal.
inline bool is_divergence(const RecipeObjective& s) {
  const LossExpression measured = measured_objective(s.loss);
  return std::all_of(measured.terms.begin(), measured.terms.end(),
                     [](const AnyTerm& term) { return term.loss.needs() == LossNeeds::vocabulary; });
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

/// The training settings of one stage of `steps` steps. SettingsError: its own warm-up is longer than the stage.
inline RecipeTraining stage_training(const RecipeTraining& training, const RecipeStage& stage, std::int64_t steps) {
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

/// Steps of the warm-up: `warmup`, or that share of the steps, rounded up. A product that is whole but for the rounding
/// of doubles (0.07 * 100) is taken as whole.
inline std::int64_t warmup_steps(const RecipeTraining& s) {
  if (s.warmup_ratio <= 0) return s.warmup;
  return static_cast<std::int64_t>(std::ceil(s.warmup_ratio * static_cast<double>(s.steps) * (1 - 1e-12)));
}

/// The course of the rate, whose peak is set. The settings have passed check_recipe.
inline RecipeRate recipe_rate(const RecipeTraining& s) {
  const std::int64_t warmup = warmup_steps(s);
  return {s.schedule,
          {.peak = s.learning_rate, .warmup = warmup, .total = s.steps},
          {.peak = s.learning_rate, .warmup = warmup, .total = s.steps}};
}

KDLIB_NAMESPACE_END

#endif
