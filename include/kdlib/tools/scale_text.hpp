// SPDX-License-Identifier: Apache-2.0
// The plan for several ranks, as `--dry-run --ranks W` prints it.
#ifndef KDLIB_TOOLS_SCALE_TEXT_HPP
#define KDLIB_TOOLS_SCALE_TEXT_HPP

#include <string>

#include "kdlib/recipe/plan.hpp"
#include "kdlib/tools/scale_plan.hpp"

KDLIB_NAMESPACE_BEGIN

/// The words of a command line about the machines of a plan.
struct ScaleWords {
  std::int64_t ranks = 1;     // W: ranks that train
  std::int64_t teachers = 0;  // N: machines that only hold the teacher; 0: each rank has its own teacher
  std::string link{};  // "100Mbit": each rank has a machine like that of the plan; empty: all ranks share this machine
  std::string latency = "0ms";

  /// True if a plan for more than one process is wanted.
  bool asked() const { return ranks > 1 || teachers > 0; }
};

/// Divides the plan of a run on one rank among several ranks. SettingsError: there are more ranks than micro-batches,
/// teachers are apart without a link, or a word has another form.
ScaleInputs scale_inputs(const RecipePlan& plan, const RecipeSettings& settings, const ScaleWords& words);
/// Returns the bytes that a rank holds. The weights of a teacher that is apart do not count; of divided moments only
/// the rank's share counts.
double rank_memory(const RecipePlan& plan, const ScaleInputs& in);

/// Returns the seconds of each part of a step, what limits the step, what waits, and what would balance it. The lines
/// have the form of RecipePlan::text.
std::string scale_text(const RecipePlan& plan, const ScaleInputs& in, const ScaleWords& words);
/// Returns the same as one JSON object.
std::string scale_json(const RecipePlan& plan, const ScaleInputs& in);

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/scale_text_inl.hpp"
#endif

#endif
