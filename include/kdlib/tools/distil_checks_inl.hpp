// SPDX-License-Identifier: Apache-2.0
// Bodies of distil_options.hpp: which options go together, and what is recorded with the run.
#ifndef KDLIB_TOOLS_DISTIL_CHECKS_INL_HPP
#define KDLIB_TOOLS_DISTIL_CHECKS_INL_HPP

#include <algorithm>

#include "kdlib/tools/distil_options.hpp"

KDLIB_NAMESPACE_BEGIN

/// Options that were given although nothing would read them.
KDLIB_TOOLS_FUNC void DistilCommand::check() const {
  const Options& options = options_;
  const RecipeStudent& s = settings_.student;
  require<ConfigError>(
      !(s.rounded && s.format.kind == PackedKind::mxfp4) || !options.given("group-size") || s.format.group_size == 32,
      "[distil] --quantize mxfp4 has groups of 32, not of --group-size ", s.format.group_size);
  require<ConfigError>(!options.given("straight-through") ||
                           (s.rounded && (s.trains == RecipeTrains::qat_lora || s.trains == RecipeTrains::all)),
                       "[distil] --straight-through belongs to --train qat_lora and all with --quantize");
  require<ConfigError>(s.adapts() || !(options.given("lora-rank") || options.given("lora-targets") ||
                                       options.given("lora-alpha") || options.given("lora-init")),
                       "[distil] --train ", train_,
                       " has no adapter; leave out the --lora-* options or use --train lora or qat_lora");
  for (const char* name : {"missing", "teacher-top-k", "mass"})
    require<ConfigError>(settings_.models.cached() || !options.given(name), "[distil] --", name, " belongs to --cache");
  require<ConfigError>(settings_.training.stages.empty() || !options.given("steps"),
                       "[distil] --steps is the length of a run without stages; ", settings_.training.stages_file,
                       " says how long each stage is: leave out one of them");
  require<ConfigError>(!json_ || dry_run_, "[distil] --json belongs to --dry-run; a run writes result.json");
  require<ConfigError>(tasks_.empty() == task_data_.empty(),
                       "[distil] --evaluate-tasks LIST and --task-data DIR belong together");
  for (const char* name : {"lora-rank", "lora-alpha", "lora-targets"})
    require<ConfigError>(settings_.models.student_adapter.empty() || !options.given(name), "[distil] --", name,
                         " is the adapter's own: leave it out with --student-adapter");
  require<ConfigError>(!(options.given("warmup") && settings_.training.warmup_ratio > 0),
                       "[distil] --warmup and --warmup-ratio say the same: give one of them");
  require<ConfigError>(!for_data_sheet() || dtype_ != "float32", "[distil] --dry-run --device ", device_,
                       " plans with the data sheet's bfloat16; leave out --dtype float32");
}

/// Everything that the recipe does not know is recorded with the run.
KDLIB_TOOLS_FUNC void DistilCommand::record() {
  using Form = DescribedSetting::Form;
  settings_.recorded.clear();
  const std::vector<DescribedSetting> known = describe(settings_);
  for (const auto& [key, value] : options_.settings()) {
    if (key == "config" || key == "beta" || key == "temperature" || key == "t-squared" ||
        key == "alpha" ||  // these are in the loss
        std::any_of(known.begin(), known.end(), [&key = key](const DescribedSetting& s) { return s.key == key; }))
      continue;
    // Switches and numbers stand without quotes.
    const bool plain = value == "on" || value == "off" ||
                       (!value.empty() && value.find_first_not_of("0123456789.-") == std::string::npos);
    if (key == "evaluate-tasks") settings_.recorded.push_back({key, tasks_, Form::list, ""});
    else settings_.recorded.push_back({key, {value}, plain ? Form::plain : Form::text, ""});
  }
}

KDLIB_NAMESPACE_END

#endif
