// SPDX-License-Identifier: Apache-2.0
// Bodies of result.hpp.
#ifndef KDLIB_RECIPE_RESULT_INL_HPP
#define KDLIB_RECIPE_RESULT_INL_HPP

#include <algorithm>
#include <cmath>
#include <limits>

#include "kdlib/core/utf8.hpp"
#include "kdlib/io/json.hpp"
#include "kdlib/io/json_writer.hpp"
#include "kdlib/recipe/number_text.hpp"
#include "kdlib/recipe/result.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Name in result.json and member, in the order of the file; of a standard error also the figure that it belongs to.
struct EvaluationField {
  const char* name;
  double EvaluationRow::*member;
  double EvaluationRow::*of = nullptr;
};
inline constexpr EvaluationField evaluation_fields[] = {
    {"forward_kl", &EvaluationRow::forward_kl},
    {"reverse_kl", &EvaluationRow::reverse_kl},
    {"top1_agreement", &EvaluationRow::top1},
    {"top5_overlap", &EvaluationRow::top5},
    {"perplexity", &EvaluationRow::perplexity},
    {"student_entropy", &EvaluationRow::student_entropy},
    {"teacher_entropy", &EvaluationRow::teacher_entropy},
    {"tokens", &EvaluationRow::tokens},
    {"objective", &EvaluationRow::objective},
    {"forward_kl_error", &EvaluationRow::forward_kl_error, &EvaluationRow::forward_kl},
    {"reverse_kl_error", &EvaluationRow::reverse_kl_error, &EvaluationRow::reverse_kl},
    {"top1_agreement_error", &EvaluationRow::top1_error, &EvaluationRow::top1},
    {"objective_error", &EvaluationRow::objective_error, &EvaluationRow::objective}};

/// What the file has of a row: a figure that was not measured is null, and so is its error.
KDLIB_FUNC double field_value(const EvaluationRow& row, const EvaluationField& field) {
  if (field.of != nullptr && !std::isfinite(row.*field.of)) return std::numeric_limits<double>::quiet_NaN();
  return row.*field.member;
}

/// "0.1847 ±0.0123": half the width of the 95 % interval, where the standard error is known.
KDLIB_FUNC std::string with_interval(const char* format, double value, double error) {
  std::string out = number_text(format, value);
  if (std::isfinite(error) && error > 0) out += " \xC2\xB1" + number_text(format, 1.96 * error);
  return out;
}

/// What the run is judged by: the objective's name and its value in a row.
KDLIB_FUNC bool objective_is(const RecipeResult& result, const char* name) { return result.objective == name; }

/// The first row is the teacher's, and the others are compared with it.
KDLIB_FUNC bool has_teacher(const RecipeResult& result) {
  return !result.rows.empty() && result.rows.front().model == "teacher";
}

/// Some row was compared with whole distributions of a teacher: one in memory, in a cache of hidden states or on a
/// server.
KDLIB_FUNC bool compares(const RecipeResult& result) {
  return std::any_of(result.rows.begin(), result.rows.end(),
                     [](const EvaluationRow& row) { return !std::isnan(row.forward_kl); });
}

}  // namespace detail

KDLIB_FUNC std::vector<std::vector<std::string>> evaluation_table(const RecipeResult& result) {
  const bool extra = !detail::objective_is(result, "forward_kl") && !detail::objective_is(result, "reverse_kl");
  std::vector<std::vector<std::string>> table = {{"model"}};
  const bool taught = detail::compares(result);
  if (extra) table[0].emplace_back("objective");
  for (const char* name : {"forward KL", "reverse KL", "top-1", "top-5"})
    if (taught) table[0].emplace_back(name);
  table[0].emplace_back("perplexity");
  const auto& tasks = result.rows.empty() ? std::vector<std::pair<std::string, double>>() : result.rows[0].tasks;
  for (const auto& task : tasks) table[0].push_back(task.first);
  for (const EvaluationRow& row : result.rows) {
    std::vector<std::string>& cells = table.emplace_back(std::vector<std::string>{row.model});
    if (extra) cells.push_back(detail::with_interval("%.4f", row.objective, row.objective_error));
    if (taught) {
      cells.push_back(detail::with_interval("%.4f", row.forward_kl, row.forward_kl_error));
      cells.push_back(detail::with_interval("%.4f", row.reverse_kl, row.reverse_kl_error));
      cells.push_back(detail::with_interval("%.3f", row.top1, row.top1_error));
      cells.push_back(detail::number_text("%.3f", row.top5));
    }
    cells.push_back(detail::number_text("%.3f", row.perplexity));
    for (const auto& task : row.tasks) cells.push_back(detail::number_text("%.3f", task.second));
  }
  return table;
}

KDLIB_FUNC std::string result_summary(const RecipeResult& result) {
  const std::size_t first = detail::has_teacher(result) ? 1 : 0;
  if (result.rows.size() < first + 2) return "";
  const EvaluationRow &before = result.rows[first], &after = result.rows.back();
  // Against the most probable tokens of a cache or a server there are no divergences over the whole vocabulary.
  const bool whole = !std::isnan(before.forward_kl);
  const bool forward = whole && detail::objective_is(result, "forward_kl"),
             reverse = whole && detail::objective_is(result, "reverse_kl");
  const auto value = [&](const EvaluationRow& row) {
    return forward ? row.forward_kl : reverse ? row.reverse_kl : row.objective;
  };
  const double from = value(before), to = value(after);
  const std::string name = forward ? "forward KL" : reverse ? "reverse KL" : "objective (" + result.objective + ")";
  const std::string values =
      concat(detail::number_text("%.4f", from), " -> ", detail::number_text("%.4f", to), " nats");
  const auto change = [](const char* format, double a, double b) {
    return concat(detail::number_text(format, a), " -> ", detail::number_text(format, b));
  };
  const std::string rest = concat(whole ? "top-1 agreement " + change("%.3f", before.top1, after.top1)
                                        : "perplexity " + change("%.3f", before.perplexity, after.perplexity),
                                  " after ", result.steps, " steps.");
  if (!(to <= from))
    return concat("The student became worse: held-out ", name, " ", values, ", ", rest,
                  " Try a lower --learning-rate, more text or fewer steps.");
  const std::string gone = from > 0 ? concat(" (", detail::number_text("%.1f", 100 * (1 - to / from)), " % gone)") : "";
  const EvaluationRow& start = result.rows[first + 1];  // the adapter's, where it is not zero
  std::string trained;
  if (start.model == "compensated")
    trained = concat(" The adapter started at ", detail::number_text("%.4f", value(start)),
                     to > value(start) ? ": training made it worse. Try a lower --learning-rate or more text." : ".");
  return concat("Held-out ", name, " ", values, gone, ", ", rest, trained);
}

KDLIB_FUNC std::string result_json(const RecipeResult& result) {
  JsonWriter json(JsonStyle{2, NonFinite::null});
  json.begin_object()
      .member("steps", result.steps)
      .member("seconds", result.seconds)
      .member("best_step", result.best_step)
      .member("objective", result.objective);
  json.key("models").begin_array();
  for (const EvaluationRow& row : result.rows) {
    json.begin_object().member("model", row.model);
    for (const detail::EvaluationField& field : detail::evaluation_fields)
      json.member(field.name, detail::field_value(row, field));
    if (!row.tasks.empty()) {
      json.key("tasks").begin_object();
      for (const auto& [name, value] : row.tasks) json.member(name, value);
      json.end_object();
    }
    json.end_object();
  }
  json.end_array().key("samples").begin_array();
  for (const SampleAnswers& sample : result.samples) {
    json.begin_object().member("prompt", sample.prompt).key("answers").begin_object();
    for (const auto& answer : sample.answers) json.member(answer.first, answer.second);
    json.end_object().end_object();
  }
  json.end_array().key("token_maps").begin_array();
  for (const TokenMap& map : result.token_maps) {
    json.begin_object().member("tokens", map.tokens).key("forward_kl").begin_object();
    for (const auto& [who, values] : map.values) json.member(who, values);
    json.end_object().end_object();
  }
  json.end_array().key("facts").begin_object();
  for (const auto& fact : result.facts) json.member(fact.first, fact.second);
  json.end_object().end_object();
  return json.text();
}

KDLIB_FUNC RecipeResult read_result_json(const std::string& path) {
  const Json json = Json::parse_file(path);
  RecipeResult result;
  result.steps = json.at("steps").as_int();
  result.seconds = json.at("seconds").as_double();
  result.best_step = json.at("best_step").as_int();
  if (const auto name = json.find_set("objective")) result.objective = name->as_string();
  for (const Json& entry : json.at("models")) {
    EvaluationRow row;
    row.model = entry.at("model").as_string();
    for (const detail::EvaluationField& field : detail::evaluation_fields)
      row.*field.member = entry.double_or(field.name, std::nan(""));
    if (const auto tasks = entry.find_set("tasks"))
      for (const JsonMember& task : tasks->members()) row.tasks.emplace_back(task.key, task.value.as_double());
    result.rows.push_back(row);
  }
  for (const Json& entry : json.at("samples")) {
    SampleAnswers sample{std::string(entry.at("prompt").as_string()), {}};
    for (const JsonMember& answer : entry.at("answers").members())
      sample.answers.emplace_back(answer.key, answer.value.as_string());
    result.samples.push_back(sample);
  }
  if (const auto maps = json.find_set("token_maps"))
    for (const Json& entry : *maps) {
      TokenMap& map = result.token_maps.emplace_back();
      for (const Json& token : entry.at("tokens")) map.tokens.emplace_back(token.as_string());
      for (const JsonMember& row : entry.at("forward_kl").members()) {
        std::vector<double> values;
        for (const Json& value : row.value) values.push_back(value.is_null() ? std::nan("") : value.as_double());
        map.values.emplace_back(row.key, std::move(values));
      }
    }
  for (const JsonMember& fact : json.at("facts").members()) result.facts.emplace_back(fact.key, fact.value.as_string());
  return result;
}

KDLIB_FUNC std::optional<RecipeResult> read_whole_result(const std::string& path, std::size_t rows,
                                                         std::string& damage) {
  try {
    RecipeResult result = read_result_json(path);
    if (result.rows.size() >= rows) return result;
    damage = concat(path, " has ", result.rows.size(), " models, ", rows, " or more are needed");
  } catch (const FormatError& error) {
    damage = error.what();
  } catch (const IoError& error) {
    damage = error.what();
  }
  return std::nullopt;
}

KDLIB_FUNC std::string result_table(const RecipeResult& result) {
  const std::vector<std::vector<std::string>> lines = evaluation_table(result);
  std::vector<std::size_t> widths(lines[0].size(), 0);
  for (const auto& line : lines)
    for (std::size_t i = 0; i < line.size(); ++i) widths[i] = std::max(widths[i], detail::utf8_count(line[i]));
  std::string out;
  for (const auto& line : lines) {
    for (std::size_t i = 0; i < line.size(); ++i) {
      const std::string pad(widths[i] - detail::utf8_count(line[i]), ' ');
      out += i == 0 ? line[i] + pad : "  " + pad + line[i];
    }
    out += '\n';
  }
  const std::string summary = result_summary(result);
  return summary.empty() ? out : out + summary + "\n";
}

KDLIB_NAMESPACE_END

#endif
