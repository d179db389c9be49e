// SPDX-License-Identifier: Apache-2.0
// report.html of a distillation: table, curves, token maps, answers side by side, what to do next, settings.
#ifndef KDLIB_TOOLS_DISTIL_REPORT_HPP
#define KDLIB_TOOLS_DISTIL_REPORT_HPP

#include <string>
#include <utility>
#include <vector>

#include "kdlib/recipe/result.hpp"
#include "kdlib/recipe/settings.hpp"
#include "kdlib/tools/report_html.hpp"

KDLIB_NAMESPACE_BEGIN

/// The whole page; the curves come from metrics.jsonl in the folder of the run.
RunReport distil_report(const RecipeResult& result, const RecipeSettings& settings);

/// Commands that use what the run left in its folder: write text, one GGUF file for llama.cpp, load in PEFT or
/// transformers. Each with the sentence that says what for.
std::vector<std::pair<std::string, std::string>> next_steps(const RecipeSettings& settings);

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/distil_report_inl.hpp"
#endif

#endif
