// SPDX-License-Identifier: Apache-2.0
// What a distillation will need, before it starts: parameters, operations, memory by part and time of a step, on
// this machine's CPU or on a named accelerator. From configurations alone: no model is loaded.
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

/// Where the run is to happen: how many operations and bytes a second, how much memory, and how wide numbers are there.
struct PlanMachine {
  std::string name;                 // as the text shows it
  std::string basis;                // where the rates come from
  double flops = 0;                 // per second, products of many rows
  double bandwidth = 0;             // bytes per second that weights are read with while text is written
  double memory = 0;                // bytes; 0: unknown
  std::string dtype = "float32";    // of weights and activations
  double scalar_bytes = 4;          // of weights and activations
  double gradient_bytes = 4;        // of a trained parameter's gradient
  double master_bytes = 0;          // of a trained parameter's master, 0 where there is none
  double moment_bytes = 4;          // of each of AdamW's two
  double logit_bytes = 4;           // between the head's product and the loss
  double teacher_expert_bytes = 4;  // of a routed expert's weight
};

/// This machine, measured in about half a second with matrices of at most 128 MiB of the model's widths.
template <class D, class T>
PlanMachine measured_machine(const DecoderConfig& config);
/// A named accelerator at assumed parts of its data sheet: 40 % of the bf16 peak for products, 60 % of the bandwidth.
/// gpt-oss experts as published (MXFP4).
PlanMachine assumed_machine(const Accelerator& accelerator, const DecoderConfig& teacher);

/// What the first steps of a run took on a device that counts (Memory<D>::DryRun), in bytes of its allocator.
struct CountedSteps {
  std::int64_t steps = 0;
  CountedMemory loaded;   // behind the loading of the models
  CountedMemory trained;  // of the steps, the text that they train on included
};

/// What a run will need, before anything is loaded: operations of a token and a step, bytes by part, seconds.
struct RecipePlan {
  ModelCost teacher, student;
  double trained_parameters = 0;
  std::vector<std::pair<std::string, double>> memory;  // part, bytes
  double student_flops = 0, training_flops = 0,
         teacher_flops = 0;  // of a counted token: forward; forward, backward and gradients; teacher's forward
  double step_flops = 0, step_tokens = 0, counted_tokens = 0;
  double teacher_step_flops = 0;                 // of step_flops
  double step_seconds = 0, writing_seconds = 0;  // of training; of writing the text of one step
  double total_seconds = 0;
  PlanMachine machine;
  std::optional<CountedSteps> counted;  // on devices that can count

  double memory_bytes() const;
  bool fits() const { return machine.memory <= 0 || memory_bytes() <= machine.memory; }
  /// ConfigError with the parts and `advice` unless it fits; `tag` stands in front.
  void require_fit(const std::string& tag, const std::string& advice) const;
  std::string text() const;
  /// The same as one JSON object: numbers in bytes, seconds and operations; `ranks`: its member "ranks", as JSON.
  std::string json(const std::string& ranks = {}) const;
};

/// Weights of a model that stay in its mapped file (WeightStorage::in_file): how many, and their bytes there.
struct WeightsInFile {
  double weights = 0, bytes = 0;
};

/// What is planned besides the settings.
struct PlannedModels {
  const DecoderConfig& teacher;
  const DecoderConfig& student;
  bool shared_weights = false;  // the student's other weights are the teacher's
  double prompt_tokens = 64;    // mean length of a rendered prompt
  WeightsInFile teacher_file = {}, student_file = {};
};

/// Counts a run of these settings on a machine of these rates.
RecipePlan plan_recipe(const RecipeSettings& settings, const PlannedModels& models, const PlanMachine& machine);

namespace detail {
constexpr double plan_gib = 1073741824.0;
/// "32 763 876 352"
std::string grouped_number(double value);
/// A line of RecipePlan::text.
std::string plan_line(std::string name, const std::string& value);
}  // namespace detail

KDLIB_NAMESPACE_END

#include "kdlib/recipe/plan_measured_inl.hpp"
#if KDLIB_HEADER_ONLY
#include "kdlib/recipe/plan_inl.hpp"
#endif

#endif
