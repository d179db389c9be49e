// SPDX-License-Identifier: Apache-2.0
// What a run of `distil` found, as it stands in result.json, in the final table and in report.html.
#ifndef KDLIB_TOOLS_DISTIL_RESULT_HPP
#define KDLIB_TOOLS_DISTIL_RESULT_HPP

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "kdlib/tools/report_html.hpp"

KDLIB_NAMESPACE_BEGIN

/// One model measured against the teacher on held-out text; means over tokens, natural logarithms.
struct EvaluationRow {
  std::string model;
  double forward_kl = 0, reverse_kl = 0;  // nats
  double top1 = 0, top5 = 0;              // share of equal argmax; share of the five largest in common
  double perplexity = 0;                  // of the held-out text
  double student_entropy = 0, teacher_entropy = 0;
  double tokens = 0;
};

/// Equal runs give equal results but for `seconds`.
struct DistilResult {
  std::int64_t steps = 0;
  double seconds = 0;
  std::int64_t best_step = -1;
  std::vector<EvaluationRow> rows;  // teacher, rounded (or: student before), distilled
  std::vector<ReportSample> samples;
  std::vector<std::pair<std::string, std::string>> facts;
};

std::string result_json(const DistilResult& result);
/// Reads what result_json wrote. FormatError names the file and the key.
DistilResult read_result_json(const std::string& path);

/// The final table as plain text, aligned, with one line that says how much of the divergence is gone.
std::string result_table(const DistilResult& result);

/// The whole page; the curves come from metrics.jsonl.
RunReport distil_report(const DistilResult& result, const std::string& metrics_path);

KDLIB_NAMESPACE_END

#include "kdlib/tools/distil_result_inl.hpp"

#endif
