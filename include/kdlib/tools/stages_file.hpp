// SPDX-License-Identifier: Apache-2.0
// Reads the YAML files of distil --groups and --stages. Needs yaml-cpp; for programs only.
#ifndef KDLIB_TOOLS_STAGES_FILE_HPP
#define KDLIB_TOOLS_STAGES_FILE_HPP

#include <string>
#include <vector>

#include "kdlib/recipe/stages.hpp"

KDLIB_NAMESPACE_BEGIN

/// A mapping of `groups`, a list of {pattern, rate}, and `default_rate`. UsageError names the file, the line and the
/// key: broken YAML, a key that is unknown or given twice, a value that is not of its kind. IoError: no such file.
RateGroups read_groups_file(const std::string& path);

/// A mapping of `stages`, a list of mappings: `name`, `steps` or `epochs`, `groups` and `default_rate` as above,
/// `learning_rate`, `schedule` (constant, linear, cosine), `warmup` (steps), `text` (go_on, restart). Errors as above.
std::vector<RecipeStage> read_stages_file(const std::string& path);

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/stages_file_inl.hpp"
#endif

#endif
