// SPDX-License-Identifier: Apache-2.0
// Folders that programs write and read whole: a model with its tokenizer, and the run of `distil` behind a path.
#ifndef KDLIB_TOOLS_MODEL_FOLDERS_HPP
#define KDLIB_TOOLS_MODEL_FOLDERS_HPP

#include <string>

#include "kdlib/recipe/model_files.hpp"
#include "kdlib/recipe/settings.hpp"

KDLIB_NAMESPACE_BEGIN

/// What a program's MODEL stands for.
struct ModelPlace {
  std::string model;    // a Hugging Face directory or a GGUF file
  std::string adapter;  // empty: none
};
/// The folder of a finished run of `distil`: base/ (or the model that was not rounded) with adapter/, else model/. Any
/// other path is the model itself. `adapter`: the one that was asked for, which a run's own must not contradict.
/// ConfigError: a run that is not finished, whose rounded base was not written, or of which a file was changed.
/// SettingsError: an adapter beside a run's own; one that a run trained beside rounded weights, for another model.
ModelPlace find_model(const std::string& path, const std::string& adapter = "");
/// The same for a model and an adapter that are there. IoError, which names the path: one of them is not.
ModelPlace find_model_there(const std::string& path, const std::string& adapter = "");
/// A MODEL that a program takes without an adapter. SettingsError: the folder of a run whose result is an adapter; it
/// names the call of convert that makes one model of both.
std::string find_whole_model(const std::string& path);
/// find_model for the teacher and the student of a recipe, find_whole_model for its named teachers. SettingsError: a
/// teacher whose adapter stands beside rounded weights, which it cannot be merged into.
void models_of_runs(RecipeModels& models);

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/model_folders_inl.hpp"
#endif

#endif
