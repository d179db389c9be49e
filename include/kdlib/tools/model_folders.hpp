// SPDX-License-Identifier: Apache-2.0
// Finds the model for which a path stands: a model's own folder, or the folder of a run of `distil`.
#ifndef KDLIB_TOOLS_MODEL_FOLDERS_HPP
#define KDLIB_TOOLS_MODEL_FOLDERS_HPP

#include <string>

#include "kdlib/recipe/model_files.hpp"
#include "kdlib/recipe/settings.hpp"

KDLIB_NAMESPACE_BEGIN

/// The model and adapter for which a program's argument MODEL stands.
struct ModelPlace {
  std::string model;    // a Hugging Face directory or a GGUF file
  std::string adapter;  // empty: no adapter
};
/// Finds model and adapter. If `path` is the folder of a finished run of `distil`, the model is the run's model/; if
/// the run trained an adapter, it is base/ (or the unrounded model of the run) together with adapter/. Any other path
/// is the model itself. `adapter` is the adapter that the user names, or empty. ConfigError: the run is not finished,
/// its rounded base was not written, or one of its files was changed. SettingsError: `adapter` is named although the
/// run has its own adapter, or `adapter` was trained beside rounded weights and `path` is another model.
ModelPlace find_model(const std::string& path, const std::string& adapter = "");
/// Finds a model and an adapter that must be there. IoError: one of them is not; the message names its path.
ModelPlace find_model_there(const std::string& path, const std::string& adapter = "");
/// Finds a model for a program that takes no adapter. SettingsError: `path` is the folder of a run whose result is an
/// adapter. The message names the call of convert that merges both into one model.
std::string find_whole_model(const std::string& path);
/// Replaces the paths in a recipe: uses find_model() for teacher and student, and find_whole_model() for the named
/// teachers. SettingsError: the adapter of a teacher belongs to rounded weights, into which it cannot be merged.
void models_of_runs(RecipeModels& models);

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/model_folders_inl.hpp"
#endif

#endif
