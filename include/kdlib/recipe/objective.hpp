// SPDX-License-Identifier: Apache-2.0
// Turns the settings of the objective and of the learning rate into the types that a Trainer takes.
#ifndef KDLIB_RECIPE_OBJECTIVE_HPP
#define KDLIB_RECIPE_OBJECTIVE_HPP

#include <cstdint>
#include <string>

#include "kdlib/optim/schedule.hpp"
#include "kdlib/recipe/settings.hpp"

KDLIB_NAMESPACE_BEGIN

/// Returns the objective that is measured on held-out text. No student drew that text, so an estimate from drawn tokens
/// is measured by the reverse KL that it estimates. A jsd with beta 0 or 1 becomes the forward or reverse KL that is
/// measured there.
LossExpression measured_objective(const LossExpression& trained);

/// Returns the objective for a teacher's top-k: forward and reverse KL become the forms that read the top-k. The other
/// terms stay; terms that read the whole vocabulary are refused later, when the targets are known (with_loss). Throws
/// ConfigError for reverse KL with the mass rule raw.
LossExpression top_k_objective(const LossExpression& trained, TopKMass mass);

/// Returns alpha * loss + (1 - alpha) * cross_entropy for alpha in (0, 1]; for alpha = 1 the loss itself. A factor T^2
/// belongs to the divergence (t_squared). Throws ConfigError for another alpha or more than 8 terms. Source: Hinton,
/// Vinyals and Dean, "Distilling the knowledge in a neural network" (arXiv 1503.02531), section 2.
LossExpression blended_loss(LossExpression loss, double alpha);

/// Returns the temperature of all terms that read the teacher's top-k, or 0 if there is no such term. Throws
/// ConfigError if their temperatures differ, since a cached row is read at one temperature.
double top_k_temperature(const LossExpression& objective);

/// Returns the measured objective as tables and reports name it: "forward_kl", "0.8 reverse_kl(temperature=2) + 0.2
/// cross_entropy".
std::string objective_text(const RecipeObjective& s);

/// True if the measured objective is 0 for a student that equals the teacher.
bool is_divergence(const RecipeObjective& s);

/// The rate of each step, for any of the schedules that the settings offer. A Schedule.
struct RecipeRate {
  RecipeSchedule kind = RecipeSchedule::linear;
  WarmupLinear linear{};
  WarmupCosine cosine{};

  double operator()(std::int64_t step) const;
  SettingsList describe() const;
};

/// Returns the training settings of one stage of `steps` steps. Throws SettingsError if the stage's own warm-up is
/// longer than the stage.
RecipeTraining stage_training(const RecipeTraining& training, const RecipeStage& stage, std::int64_t steps);

/// Returns the steps of the warm-up: `warmup`, or the share `warmup_ratio` of the steps, rounded up. A product that is
/// whole except for the rounding of doubles (0.07 * 100) counts as whole.
std::int64_t warmup_steps(const RecipeTraining& s);

/// Returns the schedule of settings whose peak is set and which have passed check_recipe.
RecipeRate recipe_rate(const RecipeTraining& s);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/recipe/objective_inl.hpp"
#endif

#endif
