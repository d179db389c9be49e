// SPDX-License-Identifier: Apache-2.0
// Bodies of result.hpp.
#ifndef KDLIB_RECIPE_RESULT_INL_HPP
#define KDLIB_RECIPE_RESULT_INL_HPP

#include <algorithm>
#include <cmath>

#include "kdlib/io/json.hpp"
#include "kdlib/io/json_writer.hpp"
#include "kdlib/recipe/number_text.hpp"
#include "kdlib/recipe/result.hpp"

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

}  // namespace detail

inline std::vector<std::string> evaluation_cells(const EvaluationRow& row) {
  return {row.model,
          detail::number_text("%.4f", row.forward_kl),
          detail::number_text("%.4f", row.reverse_kl),
          detail::number_text("%.3f", row.top1),
          detail::number_text("%.3f", row.top5),
          detail::number_text("%.3f", row.perplexity)};
}
inline std::vector<std::string> evaluation_header() {
  return {"model", "forward KL", "reverse KL", "top-1", "top-5", "perplexity"};
}

/// "Held-out forward KL 0.5455 -> 0.2485 nats (54.4 % gone), ..."
inline std::string result_summary(const RecipeResult& result) {
  if (result.rows.size() < 3) return "";
  const EvaluationRow &before = result.rows[1], &after = result.rows.back();
  const double gone = before.forward_kl > 0 ? 100 * (1 - after.forward_kl / before.forward_kl) : 0;
  return concat("Held-out forward KL ", detail::number_text("%.4f", before.forward_kl), " -> ",
                detail::number_text("%.4f", after.forward_kl), " nats (", detail::number_text("%.1f", gone),
                " % gone), top-1 agreement ", detail::number_text("%.3f", before.top1), " -> ",
                detail::number_text("%.3f", after.top1), " after ", result.steps, " steps.");
}

inline std::string result_json(const RecipeResult& result) {
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
  for (const SampleAnswers& sample : result.samples) {
    json.begin_object().member("prompt", sample.prompt).key("answers").begin_object();
    for (const auto& answer : sample.answers) json.member(answer.first, answer.second);
    json.end_object().end_object();
  }
  json.end_array().key("facts").begin_object();
  for (const auto& fact : result.facts) json.member(fact.first, fact.second);
  json.end_object().end_object();
  return json.text();
}

inline RecipeResult read_result_json(const std::string& path) {
  const Json json = Json::parse_file(path);
  RecipeResult result;
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
    SampleAnswers sample{std::string(entry.at("prompt").as_string()), {}};
    for (const JsonMember& answer : entry.at("answers").members())
      sample.answers.emplace_back(answer.key, answer.value.as_string());
    result.samples.push_back(sample);
  }
  for (const JsonMember& fact : json.at("facts").members()) result.facts.emplace_back(fact.key, fact.value.as_string());
  return result;
}

inline std::string result_table(const RecipeResult& result) {
  std::vector<std::vector<std::string>> lines{evaluation_header()};
  for (const EvaluationRow& row : result.rows) lines.push_back(evaluation_cells(row));
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
  const std::string summary = result_summary(result);
  return summary.empty() ? out : out + summary + "\n";
}

KDLIB_NAMESPACE_END

#endif
