// SPDX-License-Identifier: Apache-2.0
// The inputs of a run as paths and content hashes. They show whether other models or texts stand under the same path
// when a run continues.
#ifndef KDLIB_RECIPE_INPUTS_HPP
#define KDLIB_RECIPE_INPUTS_HPP

#include <string>
#include <utility>
#include <vector>

#include "kdlib/recipe/settings.hpp"

KDLIB_NAMESPACE_BEGIN

/// Returns the name of the option and the path of every input that the settings name.
std::vector<std::pair<std::string, std::string>> recipe_inputs(const RecipeSettings& settings);

/// Throws IoError, which names the option and the path, if a model, an adapter, a cache or a file of text that the
/// settings name is not there. Other inputs are left to the code that reads them.
void check_inputs_are_there(const RecipeSettings& settings);

/// Returns name and content_hash (io/content_hash.hpp) of each input. An input that cannot be read is left out; the
/// code that loads it reports the problem.
SettingsList input_hashes(const RecipeSettings& settings);

/// Returns the text of inputs.json in the folder of a run.
std::string inputs_text(const SettingsList& hashes);

/// Throws ConfigError, which names the input, if an input has another content than inputs.json (`path`) says. An input
/// that only one side names is not compared: the settings differ then, and their own check reports it.
void check_same_inputs(const std::string& path, const SettingsList& hashes, const RecipeSettings& settings);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/recipe/inputs_inl.hpp"
#endif

#endif
