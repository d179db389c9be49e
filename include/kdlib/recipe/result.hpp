// SPDX-License-Identifier: Apache-2.0
// What a distillation found, as it stands in result.json and in the final table.
#ifndef KDLIB_RECIPE_RESULT_HPP
#define KDLIB_RECIPE_RESULT_HPP

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "kdlib/config.hpp"

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

/// Answers to one held-out prompt.
struct SampleAnswers {
  std::string prompt;
  std::vector<std::pair<std::string, std::string>> answers;  // who, text
};

/// Equal runs give equal results but for `seconds`.
struct RecipeResult {
  std::int64_t steps = 0;
  double seconds = 0;
  std::int64_t best_step = -1;
  std::vector<EvaluationRow> rows;  // teacher, rounded (or: student before), where it was: compensated, distilled
  std::vector<SampleAnswers> samples;
  std::vector<std::pair<std::string, std::string>> facts;
};

std::string result_json(const RecipeResult& result);
/// Reads what result_json wrote. FormatError names the file and the key.
RecipeResult read_result_json(const std::string& path);

/// The final table as plain text, aligned, with one line that says how much of the divergence is gone.
std::string result_table(const RecipeResult& result);

/// "Held-out forward KL 0.5455 -> 0.2485 nats (54.4 % gone), ..."; empty where there are not a row before and one
/// after.
std::string result_summary(const RecipeResult& result);
/// The rows of the table as text, one cell a column, and the names of the columns.
std::vector<std::string> evaluation_cells(const EvaluationRow& row);
std::vector<std::string> evaluation_header();

KDLIB_NAMESPACE_END

#include "kdlib/recipe/result_inl.hpp"

#endif
