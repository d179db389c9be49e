// SPDX-License-Identifier: Apache-2.0
// Is the folder of a run its own? Asked before anything is read or touched, so that nothing of somebody else's is lost.
#ifndef KDLIB_RECIPE_RUN_PLACE_HPP
#define KDLIB_RECIPE_RUN_PLACE_HPP

#include <string>
#include <vector>

#include "kdlib/recipe/settings.hpp"

KDLIB_NAMESPACE_BEGIN

/// True where config.yaml of the folder is one that a run wrote. A file that cannot be read is not.
bool is_run_folder(const std::string& folder);

/// Refuses, without touching anything: what check_writable_folder refuses (IoError); what has a name of a run's and is
/// not listed in the folder's outputs.json as written by one (SettingsError): it is not this program's to replace or
/// remove; an input at or below a path that the run writes (SettingsError). Links are followed.
void check_run_place(const RecipeSettings& settings);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/recipe/run_place_inl.hpp"
#endif

#endif
