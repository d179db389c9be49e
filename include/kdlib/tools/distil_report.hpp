// SPDX-License-Identifier: Apache-2.0
// The page report.html of a distillation: table, curves, token maps, answers of the models side by side, next steps and
// settings.
#ifndef KDLIB_TOOLS_DISTIL_REPORT_HPP
#define KDLIB_TOOLS_DISTIL_REPORT_HPP

#include <string>
#include <utility>
#include <vector>

#include "kdlib/recipe/result.hpp"
#include "kdlib/recipe/settings.hpp"
#include "kdlib/tools/report_html.hpp"

KDLIB_NAMESPACE_BEGIN

/// Returns the contents of the page. The curves are read from metrics.jsonl in the folder of the run.
RunReport distil_report(const RecipeResult& result, const RecipeSettings& settings);

/// Returns commands that use the files of the run: write text, make one GGUF file for llama.cpp, load the result in
/// PEFT or transformers. Each pair is (purpose in a sentence, command).
std::vector<std::pair<std::string, std::string>> next_steps(const RecipeSettings& settings);

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/distil_report_inl.hpp"
#endif

#endif
