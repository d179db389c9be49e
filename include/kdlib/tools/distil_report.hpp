// SPDX-License-Identifier: Apache-2.0
// report.html of a distillation: table, curves, answers side by side, settings.
#ifndef KDLIB_TOOLS_DISTIL_REPORT_HPP
#define KDLIB_TOOLS_DISTIL_REPORT_HPP

#include <string>

#include "kdlib/recipe/result.hpp"
#include "kdlib/tools/report_html.hpp"

KDLIB_NAMESPACE_BEGIN

/// The whole page; the curves come from metrics.jsonl.
RunReport distil_report(const RecipeResult& result, const std::string& metrics_path);

KDLIB_NAMESPACE_END

#include "kdlib/tools/distil_report_inl.hpp"

#endif
