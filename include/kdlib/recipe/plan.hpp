// SPDX-License-Identifier: Apache-2.0
// What a distillation will need, before it starts: parameters, operations, memory by part and time of a step, on this
// machine or on a named accelerator. A plan is computed from configurations alone; this header loads no model.
#ifndef KDLIB_RECIPE_PLAN_HPP
#define KDLIB_RECIPE_PLAN_HPP

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kdlib/recipe/machines.hpp"
#include "kdlib/recipe/model_cost.hpp"
#include "kdlib/recipe/settings.hpp"
#include "kdlib/tensor/device.hpp"

KDLIB_NAMESPACE_BEGIN

/// The machine of a planned run: operations and bytes per second, memory, and the width of numbers.
struct PlanMachine {
  std::string name;                 // name in the text of the plan
  std::string basis;                // where the rates come from
  double flops = 0;                 // operations per second in products of many rows
  double bandwidth = 0;             // bytes per second at which weights are read while text is written
  double memory = 0;                // bytes; 0: unknown
  std::string dtype = "float32";    // of weights and activations
  double scalar_bytes = 4;          // of weights and activations
  double gradient_bytes = 4;        // of the gradient of a trained parameter
  double master_bytes = 0;          // of the master of a trained parameter; 0: there is none
  double moment_bytes = 4;          // of each of AdamW's two moments
  double logit_bytes = 4;           // of a logit between the head's product and the loss
  double teacher_expert_bytes = 4;  // of a weight of a routed expert
};

/// Returns this machine, measured in about half a second with matrices of the model's widths, of at most 128 MiB in
/// float.
template <class D, class T>
PlanMachine measured_machine(const DecoderConfig& config);
/// Returns a named accelerator at assumed shares of its data sheet: 40 % of the bf16 peak for products and 60 % of the
/// bandwidth. The experts of gpt-oss count as published (MXFP4).
PlanMachine assumed_machine(const Accelerator& accelerator, const DecoderConfig& teacher);

/// What the first steps of a run took on a device that counts memory (Memory<D>::DryRun), in bytes of its allocator.
struct CountedSteps {
  std::int64_t steps = 0;
  CountedMemory loaded;   // after the models were loaded
  CountedMemory trained;  // over the steps, including their text
};

/// What a run will need: operations of a token and of a step, bytes by part, seconds.
struct RecipePlan {
  ModelCost teacher, student;
  double trained_parameters = 0;
  std::vector<std::pair<std::string, double>> memory;  // name of the part, bytes
  /// Operations for one counted token: the student's forward pass; its forward and backward pass with gradients; the
  /// teacher's forward pass.
  double student_flops = 0, training_flops = 0, teacher_flops = 0;
  double step_flops = 0, step_tokens = 0, counted_tokens = 0;
  double teacher_step_flops = 0;                 // the teacher's part of step_flops
  double step_seconds = 0, writing_seconds = 0;  // of training one step; of writing the text of one step
  double total_seconds = 0;
  PlanMachine machine;
  std::optional<CountedSteps> counted;  // on devices that can count memory

  double memory_bytes() const;
  bool fits() const { return machine.memory <= 0 || memory_bytes() <= machine.memory; }
  /// Throws ConfigError, with the parts and `advice`, unless the run fits. The message begins with `tag`.
  void require_fit(const std::string& tag, const std::string& advice) const;
  std::string text() const;
  /// Returns the plan as one JSON object, with numbers in bytes, seconds and operations. `ranks` is the value of the
  /// member "ranks", as JSON; empty: there is none.
  std::string json(const std::string& ranks = {}) const;
};

/// The weights of a model that stay in its mapped file (WeightStorage::in_file): their number, and their bytes there.
struct WeightsInFile {
  double weights = 0, bytes = 0;
};

/// What a plan needs to know besides the settings.
struct PlannedModels {
  const DecoderConfig& teacher;
  const DecoderConfig& student;
  bool shared_weights = false;  // the student shares the teacher's other weights
  double prompt_tokens = 64;    // mean length of a rendered prompt, in tokens
  WeightsInFile teacher_file = {}, student_file = {};
};

/// Plans a run of these settings on a machine of these rates.
RecipePlan plan_recipe(const RecipeSettings& settings, const PlannedModels& models, const PlanMachine& machine);

namespace detail {
constexpr double plan_gib = 1073741824.0;
/// Returns a number with blanks between thousands: "32 763 876 352".
std::string grouped_number(double value);
/// Returns a line of RecipePlan::text.
std::string plan_line(std::string name, const std::string& value);
}  // namespace detail

KDLIB_NAMESPACE_END

#include "kdlib/recipe/plan_measured_inl.hpp"
#if KDLIB_HEADER_ONLY
#include "kdlib/recipe/plan_inl.hpp"
#endif

#endif
