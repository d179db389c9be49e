// SPDX-License-Identifier: Apache-2.0
// Bodies of recipe/run_place.hpp.
#ifndef KDLIB_RECIPE_RUN_PLACE_INL_HPP
#define KDLIB_RECIPE_RUN_PLACE_INL_HPP

#include <algorithm>

#include "kdlib/io/paths.hpp"
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
      require<ConfigError>(!lies_in(input, resolved_path(written)), "[distil] --", name, " ", path,
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

KDLIB_FUNC void check_run_place(const RecipeSettings& s) {
  const std::string& folder = s.output.folder;
  require<ConfigError>(!folder.empty(), "[distil] --out is empty; name a folder");
  try {
    check_folder_path(folder);
  } catch (const IoError& error) {
    fail<IoError>("[distil] --out ", folder, " cannot be the folder of a run: ", error.what());
  }
  if (!is_run_folder(folder))
    for (const std::string& name : run_names())
      require<ConfigError>(
          !detail::name_is_taken(join_path(folder, name)), "[distil] --out ", folder, " holds ", name,
          name == "config.yaml" ? ", which no run of distil wrote" : ", but no config.yaml of a run of distil",
          ": it is not replaced or removed; choose another --out, or move it away");
  detail::check_inputs_are_safe(s);
}

KDLIB_NAMESPACE_END

#endif
