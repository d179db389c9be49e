// SPDX-License-Identifier: Apache-2.0
// Bodies of distil_report.hpp.
#ifndef KDLIB_TOOLS_DISTIL_REPORT_INL_HPP
#define KDLIB_TOOLS_DISTIL_REPORT_INL_HPP

#include "kdlib/io/jsonl.hpp"
#include "kdlib/tools/distil_report.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Curves of metrics.jsonl by name.
inline ReportSeries metric_series(const std::vector<Json>& lines, const char* key, const char* name,
                                  bool points = false) {
  ReportSeries series{name, {}, {}, points};
  for (const Json& line : lines) {
    const std::optional<Json> value = line.find_set(key);
    if (!value) continue;
    series.x.push_back(line.at("step").as_double());
    series.y.push_back(value->as_double());
  }
  return series;
}

inline void add_chart(RunReport& report, ReportChart chart) {
  std::vector<ReportSeries> present;
  for (ReportSeries& series : chart.series)
    if (!series.x.empty()) present.push_back(std::move(series));
  chart.series = std::move(present);
  if (!chart.series.empty()) report.charts.push_back(std::move(chart));
}

}  // namespace detail

inline RunReport distil_report(const RecipeResult& result, const std::string& metrics_path) {
  std::vector<Json> lines;
  for (JsonlReader reader(metrics_path); std::optional<Json> line = reader.next();) lines.push_back(*line);
  RunReport report;
  report.title = "Distillation report";
  report.summary = result_summary(result);
  ReportTable table{"Held-out result", "", evaluation_header(), {}};
  for (const EvaluationRow& row : result.rows) table.rows.push_back(evaluation_cells(row));
  if (!result.rows.empty())
    table.note = concat("Means over ", static_cast<std::int64_t>(result.rows.back().tokens),
                        " held-out answer tokens. KL in nats a token, forward: KL(teacher || model); top-1: same most "
                        "probable token; top-5: share of the "
                        "five most probable tokens in common; perplexity of the held-out text.");
  report.tables.push_back(table);
  detail::add_chart(report, {"Loss",
                             "step",
                             "nats per token",
                             {detail::metric_series(lines, "train/loss", "training loss"),
                              detail::metric_series(lines, "evaluation/forward_kl", "held-out forward KL", true)}});
  detail::add_chart(report, {"Agreement with the teacher",
                             "step",
                             "share of tokens",
                             {detail::metric_series(lines, "train/top1_agreement", "top-1, training text"),
                              detail::metric_series(lines, "train/top5_overlap", "top-5, training text"),
                              detail::metric_series(lines, "evaluation/top1_agreement", "top-1, held out", true),
                              detail::metric_series(lines, "evaluation/top5_overlap", "top-5, held out", true)}});
  detail::add_chart(report, {"Entropy",
                             "step",
                             "nats per token",
                             {detail::metric_series(lines, "train/student_entropy", "student"),
                              detail::metric_series(lines, "train/teacher_entropy", "teacher")}});
  detail::add_chart(report, {"Gradient norm before clipping",
                             "step",
                             "",
                             {detail::metric_series(lines, "train/grad_norm", "gradient norm")}});
  for (const SampleAnswers& sample : result.samples) report.samples.push_back({sample.prompt, sample.answers});
  report.facts = result.facts;
  return report;
}

KDLIB_NAMESPACE_END

#endif
