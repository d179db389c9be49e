// SPDX-License-Identifier: Apache-2.0
// Which parameters a distillation trains at which multiple of the rate, and several trainings in one run, one after the
// other. Patterns are Python's regular expressions (nn/path_pattern.hpp), as recipes for mixtures have them.
#ifndef KDLIB_RECIPE_STAGES_HPP
#define KDLIB_RECIPE_STAGES_HPP

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kdlib/optim/concepts.hpp"
#include "kdlib/optim/param_groups.hpp"

KDLIB_NAMESPACE_BEGIN

/// The course of the learning rate after the warm-up.
enum class RecipeSchedule : std::uint8_t { constant, linear, cosine };
/// Returns the word of a schedule on the command line and in config.yaml.
const char* recipe_word(RecipeSchedule value);

/// Parameters in whose name `pattern` is found (Python's re.search) learn at `rate` times the schedule's rate. A rate
/// of 0 freezes them; they have no gradient and no moments.
struct RateGroup {
  std::string pattern;
  double rate = 1;  // >= 0
};

/// A list of groups. The first group that fits a name decides.
struct RateGroups {
  std::vector<RateGroup> list{};
  double default_rate = 1;  // >= 0, for names that no group fits

  bool empty() const { return list.empty() && default_rate == 1; }
  /// Returns "<pattern>=<rate> ... default=<rate>". Empty if all parameters learn at the rate.
  std::string text() const;
};

/// One training of several in a run. At its start every parameter that the run may train is free again, then `groups`
/// apply; optimizer and schedule begin anew. Members that are not set have the values of RecipeTraining.
struct RecipeStage {
  std::string name{};
  std::int64_t steps = 0;  // either this is above 0, or
  double epochs = 0;       // this: passes over the text or the prompts, rounded up to whole steps
  RateGroups groups{};
  std::optional<double> learning_rate{};
  std::optional<RecipeSchedule> schedule{};
  std::optional<std::int64_t> warmup{};  // steps
  bool restart_text = false;             // true: the text begins again; false: it continues
};

/// Returns every member of every stage as a text, which checkpoints compare.
std::string stages_text(const std::vector<RecipeStage>& stages);

/// Returns the optimiser steps of a stage over `examples` texts, of which each step takes `step_examples`.
std::int64_t stage_steps(const RecipeStage& stage, std::int64_t examples, std::int64_t step_examples);

/// Throw ConfigError for groups and stages that no model could be trained by. `place` begins the sentence: a file, or
/// the name of an option.
void check_groups(const RateGroups& groups, const std::string& place);
void check_stages(const std::vector<RecipeStage>& stages, const std::string& place);

/// Groups, applied to the parameters that a run may train. A ParameterSelection: it returns the factor of the rate, and
/// 0 for every other name.
class GroupSelection {
 public:
  /// A parameter: its name and its number of elements.
  using Named = std::pair<std::string, std::int64_t>;

  /// Throws ConfigError, which begins with `place`, for a pattern that fits none of the names, and for rate 0 for all
  /// names.
  GroupSelection(const RateGroups& groups, const std::vector<Named>& parameters, const std::string& place);

  double operator()(std::string_view name) const;
  /// Returns the groups as a checkpoint compares them. Empty if all parameters learn at the rate.
  SettingsList describe() const;

  /// What one group decides. The last Use is that of the default rate.
  struct Use {
    std::string pattern;  // empty: the default rate
    double rate = 1;
    std::int64_t tensors = 0, elements = 0;
  };
  const std::vector<Use>& uses() const { return uses_; }
  /// Returns a sentence for each of them. It warns of a group whose names earlier groups have taken.
  std::vector<std::string> notes() const;

 private:
  std::string text_;
  std::vector<Use> uses_;
  std::vector<std::pair<std::string, double>> rates_;  // sorted by name
};

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/recipe/stages_inl.hpp"
#endif

#endif
