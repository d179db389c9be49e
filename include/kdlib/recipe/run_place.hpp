// SPDX-License-Identifier: Apache-2.0
// Checks that the folder of a run is its own, before anything is read or changed, so that no other files are lost.
#ifndef KDLIB_RECIPE_RUN_PLACE_HPP
#define KDLIB_RECIPE_RUN_PLACE_HPP

#include <string>
#include <vector>

#include "kdlib/recipe/settings.hpp"

KDLIB_NAMESPACE_BEGIN

/// True if config.yaml of the folder was written by a run. False if it cannot be read.
bool is_run_folder(const std::string& folder);

/// Throws, without changing anything: IoError for what check_writable_folder refuses; SettingsError if something in the
/// folder has a name of a run's file but the folder's outputs.json does not list it, because this program must not
/// replace or remove it; SettingsError if an input lies at or below a path that the run writes. Links are followed.
void check_run_place(const RecipeSettings& settings);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/recipe/run_place_inl.hpp"
#endif

#endif
