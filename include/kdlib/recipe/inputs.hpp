// SPDX-License-Identifier: Apache-2.0
// What a run reads, as paths and content hashes: other models or texts under the same path are noticed when it goes on.
#ifndef KDLIB_RECIPE_INPUTS_HPP
#define KDLIB_RECIPE_INPUTS_HPP

#include <string>
#include <utility>
#include <vector>

#include "kdlib/recipe/settings.hpp"

KDLIB_NAMESPACE_BEGIN

/// The name of the option and the path of every input that the settings name.
std::vector<std::pair<std::string, std::string>> recipe_inputs(const RecipeSettings& settings);

/// Name and content_hash (io/content_hash.hpp) of each. What cannot be read is left out: who loads it says why.
SettingsList input_hashes(const RecipeSettings& settings);

/// The text of inputs.json in the folder of a run.
std::string inputs_text(const SettingsList& hashes);

/// ConfigError names the input that has another content than inputs.json says. Inputs that only one side names are the
/// settings' business.
void check_same_inputs(const std::string& path, const SettingsList& hashes, const RecipeSettings& settings);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/recipe/inputs_inl.hpp"
#endif

#endif
