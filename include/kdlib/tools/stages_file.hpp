// SPDX-License-Identifier: Apache-2.0
// Reads the YAML files of the options --groups and --stages of distil. Needs yaml-cpp; for programs only.
#ifndef KDLIB_TOOLS_STAGES_FILE_HPP
#define KDLIB_TOOLS_STAGES_FILE_HPP

#include <string>
#include <vector>

#include "kdlib/recipe/stages.hpp"

KDLIB_NAMESPACE_BEGIN

/// Reads a mapping with `groups`, a list of {pattern, rate}, and `default_rate`. UsageError, naming the file, the line
/// and the key: the YAML is broken, a key is unknown or given twice, or a value has the wrong type. IoError: there is
/// no such file.
RateGroups read_groups_file(const std::string& path);

/// Reads a mapping with `stages`, a list of mappings. The keys of a stage are `name`, `steps` or `epochs`, `groups` and
/// `default_rate` as in read_groups_file(), `learning_rate`, `schedule` (constant, linear, cosine), `warmup` (steps)
/// and `text` (go_on, restart). Errors as in read_groups_file().
std::vector<RecipeStage> read_stages_file(const std::string& path);

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/stages_file_inl.hpp"
#endif

#endif
