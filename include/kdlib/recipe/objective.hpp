// SPDX-License-Identifier: Apache-2.0
// Settings of the objective and the rate as the types that a Trainer takes.
#ifndef KDLIB_RECIPE_OBJECTIVE_HPP
#define KDLIB_RECIPE_OBJECTIVE_HPP

#include <cstdint>
#include <string>

#include "kdlib/optim/schedule.hpp"
#include "kdlib/recipe/settings.hpp"

KDLIB_NAMESPACE_BEGIN

/// The objective as it is measured on held-out text, which no student drew: an estimate from drawn tokens is measured
/// by the reverse KL that it estimates, and a jsd at its ends is the divergence that it is there.
LossExpression measured_objective(const LossExpression& trained);

/// The objective for a teacher's top-k: forward and reverse KL become the forms that read it. The other terms stay;
/// what reads the whole vocabulary is refused where the targets are known (with_loss). ConfigError: reverse KL with the
/// mass rule raw.
LossExpression top_k_objective(const LossExpression& trained, TopKMass mass);

/// alpha * loss + (1 - alpha) * cross_entropy, with alpha in (0, 1]; at 1 the loss itself. A factor T^2 is the
/// divergence's own (t_squared). Source: Hinton, Vinyals and Dean, "Distilling the knowledge in a neural network"
/// (arXiv 1503.02531), section 2.
LossExpression blended_loss(LossExpression loss, double alpha);

/// The temperature of all terms on the teacher's top-k; 0: there is none. ConfigError where they differ: a cached row
/// is read at one.
double top_k_temperature(const LossExpression& objective);

/// What is measured, as tables and reports name it: "forward_kl", "0.8 reverse_kl(temperature=2) + 0.2 cross_entropy".
std::string objective_text(const RecipeObjective& s);

/// The measured objective is 0 where student and teacher are equal.
bool is_divergence(const RecipeObjective& s);

/// The rate of a step, of any of the courses that the settings offer. A Schedule.
struct RecipeRate {
  RecipeSchedule kind = RecipeSchedule::linear;
  WarmupLinear linear{};
  WarmupCosine cosine{};

  double operator()(std::int64_t step) const;
  SettingsList describe() const;
};

/// The training settings of one stage of `steps` steps. SettingsError: its own warm-up is longer than the stage.
RecipeTraining stage_training(const RecipeTraining& training, const RecipeStage& stage, std::int64_t steps);

/// Steps of the warm-up: `warmup`, or that share of the steps, rounded up. A product that is whole but for the rounding
/// of doubles (0.07 * 100) is taken as whole.
std::int64_t warmup_steps(const RecipeTraining& s);

/// The course of the rate, whose peak is set. The settings have passed check_recipe.
RecipeRate recipe_rate(const RecipeTraining& s);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/recipe/objective_inl.hpp"
#endif

#endif
