// SPDX-License-Identifier: Apache-2.0
// The plan of several ranks as `--dry-run --ranks W` prints it.
#ifndef KDLIB_TOOLS_SCALE_TEXT_HPP
#define KDLIB_TOOLS_SCALE_TEXT_HPP

#include <string>

#include "kdlib/recipe/plan.hpp"
#include "kdlib/tools/scale_plan.hpp"

KDLIB_NAMESPACE_BEGIN

/// What a command line says of the machines of a plan.
struct ScaleWords {
  std::int64_t ranks = 1;     // that train
  std::int64_t teachers = 0;  // machines that hold the teacher alone (serve --teacher); 0: each rank has it
  std::string link{};         // "100Mbit": each rank is a machine as the plan's; empty: they share that machine
  std::string latency = "0ms";

  /// A plan for more than one process is asked for.
  bool asked() const { return ranks > 1 || teachers > 0; }
};

/// The plan of a run on one rank, divided among several. SettingsError: more ranks than micro-batches, teachers apart
/// without a link, words of another form.
ScaleInputs scale_inputs(const RecipePlan& plan, const RecipeSettings& settings, const ScaleWords& words);
/// Bytes that a rank holds: without the teacher's weights where it is apart, its share of moments that are divided.
double rank_memory(const RecipePlan& plan, const ScaleInputs& in);

/// Each part of a step in seconds, what bounds it, what waits, and what would balance it. Lines as RecipePlan::text.
std::string scale_text(const RecipePlan& plan, const ScaleInputs& in, const ScaleWords& words);
/// The same as one JSON object.
std::string scale_json(const RecipePlan& plan, const ScaleInputs& in);

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/scale_text_inl.hpp"
#endif

#endif
