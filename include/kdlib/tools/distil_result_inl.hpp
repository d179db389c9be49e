// SPDX-License-Identifier: Apache-2.0
// Bodies of distil_result.hpp.
#ifndef KDLIB_TOOLS_DISTIL_RESULT_INL_HPP
#define KDLIB_TOOLS_DISTIL_RESULT_INL_HPP

#include <cmath>
#include <cstdio>

#include "kdlib/io/json.hpp"
#include "kdlib/io/json_writer.hpp"
#include "kdlib/io/jsonl.hpp"
#include "kdlib/tools/distil_result.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Name in result.json and member, in the order of the file.
struct EvaluationField {
  const char* name;
  double EvaluationRow::*member;
};
inline constexpr EvaluationField evaluation_fields[] = {{"forward_kl", &EvaluationRow::forward_kl},
                                                        {"reverse_kl", &EvaluationRow::reverse_kl},
                                                        {"top1_agreement", &EvaluationRow::top1},
                                                        {"top5_overlap", &EvaluationRow::top5},
                                                        {"perplexity", &EvaluationRow::perplexity},
                                                        {"student_entropy", &EvaluationRow::student_entropy},
                                                        {"teacher_entropy", &EvaluationRow::teacher_entropy},
                                                        {"tokens", &EvaluationRow::tokens}};

inline std::vector<std::string> evaluation_cells(const EvaluationRow& row) {
  return {row.model,
          number_text("%.4f", row.forward_kl),
          number_text("%.4f", row.reverse_kl),
          number_text("%.3f", row.top1),
          number_text("%.3f", row.top5),
          number_text("%.3f", row.perplexity)};
}
inline std::vector<std::string> evaluation_header() {
  return {"model", "forward KL", "reverse KL", "top-1", "top-5", "perplexity"};
}

/// "Held-out forward KL 0.5455 -> 0.2485 nats (54.4 % gone), ..."
inline std::string result_summary(const DistilResult& result) {
  if (result.rows.size() < 3) return "";
  const EvaluationRow &before = result.rows[result.rows.size() - 2], &after = result.rows.back();
  const double gone = before.forward_kl > 0 ? 100 * (1 - after.forward_kl / before.forward_kl) : 0;
  return concat("Held-out forward KL ", number_text("%.4f", before.forward_kl), " -> ",
                number_text("%.4f", after.forward_kl), " nats (", number_text("%.1f", gone),
                " % gone), top-1 agreement ", number_text("%.3f", before.top1), " -> ", number_text("%.3f", after.top1),
                " after ", result.steps, " steps.");
}

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

inline std::string result_json(const DistilResult& result) {
  JsonWriter json(JsonStyle{2, NonFinite::null});
  json.begin_object()
      .member("steps", result.steps)
      .member("seconds", result.seconds)
      .member("best_step", result.best_step);
  json.key("models").begin_array();
  for (const EvaluationRow& row : result.rows) {
    json.begin_object().member("model", row.model);
    for (const detail::EvaluationField& field : detail::evaluation_fields) json.member(field.name, row.*field.member);
    json.end_object();
  }
  json.end_array().key("samples").begin_array();
  for (const ReportSample& sample : result.samples) {
    json.begin_object().member("prompt", sample.prompt).key("answers").begin_object();
    for (const auto& answer : sample.answers) json.member(answer.first, answer.second);
    json.end_object().end_object();
  }
  json.end_array().key("facts").begin_object();
  for (const auto& fact : result.facts) json.member(fact.first, fact.second);
  json.end_object().end_object();
  return json.text();
}

inline DistilResult read_result_json(const std::string& path) {
  const Json json = Json::parse_file(path);
  DistilResult result;
  result.steps = json.at("steps").as_int();
  result.seconds = json.at("seconds").as_double();
  result.best_step = json.at("best_step").as_int();
  for (const Json& entry : json.at("models")) {
    EvaluationRow row;
    row.model = entry.at("model").as_string();
    for (const detail::EvaluationField& field : detail::evaluation_fields)
      row.*field.member = entry.double_or(field.name, std::nan(""));
    result.rows.push_back(row);
  }
  for (const Json& entry : json.at("samples")) {
    ReportSample sample{std::string(entry.at("prompt").as_string()), {}};
    for (const JsonMember& answer : entry.at("answers").members())
      sample.answers.emplace_back(answer.key, answer.value.as_string());
    result.samples.push_back(sample);
  }
  for (const JsonMember& fact : json.at("facts").members()) result.facts.emplace_back(fact.key, fact.value.as_string());
  return result;
}

inline std::string result_table(const DistilResult& result) {
  std::vector<std::vector<std::string>> lines{detail::evaluation_header()};
  for (const EvaluationRow& row : result.rows) lines.push_back(detail::evaluation_cells(row));
  std::vector<std::size_t> widths(lines[0].size(), 0);
  for (const auto& line : lines)
    for (std::size_t i = 0; i < line.size(); ++i) widths[i] = std::max(widths[i], line[i].size());
  std::string out;
  for (const auto& line : lines) {
    for (std::size_t i = 0; i < line.size(); ++i) {
      const std::string pad(widths[i] - line[i].size(), ' ');
      out += i == 0 ? line[i] + pad : "  " + pad + line[i];
    }
    out += '\n';
  }
  const std::string summary = detail::result_summary(result);
  return summary.empty() ? out : out + summary + "\n";
}

inline RunReport distil_report(const DistilResult& result, const std::string& metrics_path) {
  std::vector<Json> lines;
  for (JsonlReader reader(metrics_path); std::optional<Json> line = reader.next();) lines.push_back(*line);
  RunReport report;
  report.title = "Distillation report";
  report.summary = detail::result_summary(result);
  ReportTable table{"Held-out result", "", detail::evaluation_header(), {}};
  for (const EvaluationRow& row : result.rows) table.rows.push_back(detail::evaluation_cells(row));
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
  report.samples = result.samples;
  report.facts = result.facts;
  return report;
}

KDLIB_NAMESPACE_END

#endif
