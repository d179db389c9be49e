// SPDX-License-Identifier: Apache-2.0
// Bodies of recipe/run_place.hpp.
#ifndef KDLIB_RECIPE_RUN_PLACE_INL_HPP
#define KDLIB_RECIPE_RUN_PLACE_INL_HPP

#include <algorithm>

#include "kdlib/core/settings_error.hpp"
#include "kdlib/io/paths.hpp"
#include "kdlib/io/utf8.hpp"
#include "kdlib/io/writable_folder.hpp"
#include "kdlib/recipe/inputs.hpp"
#include "kdlib/recipe/run_folder.hpp"
#include "kdlib/recipe/run_place.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

KDLIB_FUNC void check_inputs_are_safe(const RecipeSettings& s) {
  for (const auto& [name, path] : recipe_inputs(s)) {
    const std::string input = resolved_path(path);
    for (const std::string& own : run_names()) {
      const std::string written = join_path(s.output.folder, own);
      require<SettingsError>(!lies_in(input, resolved_path(written)), "[distil] --", name, " ", path,
                             " lies where the run writes ", written, ", and would be replaced: choose another --out");
    }
  }
}

}  // namespace detail

KDLIB_FUNC bool is_run_folder(const std::string& folder) {
  const std::string path = join_path(folder, "config.yaml");
  if (!is_regular_file(path)) return false;
  try {
    const std::vector<DescribedSetting> settings = read_run_config(path);
    for (const char* key : {"teacher", "student", "quantize", "train", "loss", "lambda", "steps", "seed", "out"})
      if (std::none_of(settings.begin(), settings.end(), [key](const DescribedSetting& s) { return s.key == key; }))
        return false;
    return true;
  } catch (const Error&) {
    return false;
  }
}

namespace detail {

KDLIB_FUNC std::string joined_names(const std::vector<std::string>& names) {
  std::string out;
  for (std::size_t i = 0; i < names.size() && i < 8; ++i) out += (i == 0 ? "" : ", ") + printable(names[i]);
  return names.size() > 8 ? concat(out, " and ", names.size() - 8, " more") : out;
}

/// The list of what a run wrote; empty where what has its name is somebody else's.
KDLIB_FUNC RunOutputs known_outputs(const std::string& folder) {
  try {
    return RunOutputs::read(folder);
  } catch (const FormatError&) {
    return RunOutputs(folder);
  }
}

/// What has a name of a run's in the folder is the run's own where its list says so.
KDLIB_FUNC void check_names_are_own(const RecipeSettings& s) {
  const std::string& folder = s.output.folder;
  const RunOutputs outputs = known_outputs(folder);
  const bool begun = outputs.lists("outputs.json") && !name_is_taken(join_path(folder, "config.yaml"));  // and killed
  const bool own = is_run_folder(folder) || begun, start_over = s.output.resume == RecipeResume::no;
  const std::vector<std::string> written = names_written(s);
  std::vector<std::string> strangers;
  for (const std::string& name : run_names()) {
    if (!name_is_taken(join_path(folder, name)) || (own && outputs.lists(name))) continue;
    const bool needed = std::find(written.begin(), written.end(), name) != written.end();
    if (!own || start_over || needed) strangers.push_back(name);
  }
  require<SettingsError>(strangers.empty(), "[distil] --out ", folder, " holds ", joined_names(strangers),
                         ", which no run of distil wrote: not replaced or removed; choose another --out, or move "
                         "what is yours away");
  if (!start_over || !own) return;
  const std::vector<std::string> foreign = outputs.foreign();
  require<SettingsError>(foreign.empty(), "[distil] --resume no would remove ", joined_names(foreign), " in ", folder,
                         ", which no run of distil wrote: not replaced or removed; choose another --out, or move what "
                         "is yours away");
}

}  // namespace detail

KDLIB_FUNC void check_run_place(const RecipeSettings& s) {
  const std::string& folder = s.output.folder;
  require<SettingsError>(!folder.empty(), "[distil] --out is empty; name a folder");
  check_writable_folder(folder, "[distil] --out");
  if (!s.text.answers.empty()) check_writable_folder(s.text.answers, "[distil] --teacher-cache");
  detail::check_names_are_own(s);
  detail::check_inputs_are_safe(s);
  if (s.output.tensorboard.empty()) return;
  check_writable_folder(s.output.tensorboard, "[distil] --tensorboard");
  for (const auto& [name, input] : recipe_inputs(s))
    require<SettingsError>(
        !is_directory(input) ||
            !detail::lies_in(detail::resolved_path(s.output.tensorboard), detail::resolved_path(input)),
        "[distil] --tensorboard ", s.output.tensorboard, " lies in --", name, " ", input, ": choose another folder");
}

KDLIB_NAMESPACE_END

#endif
