// SPDX-License-Identifier: Apache-2.0
// What a distillation found, as it stands in result.json and in the final table.
#ifndef KDLIB_RECIPE_RESULT_HPP
#define KDLIB_RECIPE_RESULT_HPP

#include <cstdint>
#include <optional>
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
  double objective = 0;  // held-out value of what is trained, nats
  double forward_kl_error = 0, reverse_kl_error = 0, top1_error = 0, objective_error = 0;  // standard, over documents
  std::vector<std::pair<std::string, double>> tasks{};  // what the caller measures besides: "hellaswag/acc"
};

/// Answers to one held-out prompt.
struct SampleAnswers {
  std::string prompt;
  std::vector<std::pair<std::string, std::string>> answers;  // who, text
};

/// A held-out text with the student's distance from the teacher at each token: KL(teacher || student) in nats, NaN
/// where the token is not part of the answer.
struct TokenMap {
  std::vector<std::string> tokens;  // texts; bytes of one letter that several ids share stand with the first of them
  std::vector<std::pair<std::string, std::vector<double>>> values;  // which student, one value a token
};

/// Equal runs give equal results but for `seconds`.
struct RecipeResult {
  std::int64_t steps = 0;
  double seconds = 0;
  std::int64_t best_step = -1;
  std::vector<EvaluationRow> rows;       // teacher, rounded (or: student before), where it was: compensated, distilled
  std::string objective = "forward_kl";  // what `objective` of the rows is the value of
  std::vector<SampleAnswers> samples;
  std::vector<TokenMap> token_maps;
  std::vector<std::pair<std::string, std::string>> facts;
};

/// The text of result.json (docs/formats.md).
std::string result_json(const RecipeResult& result);
/// Reads what result_json wrote. FormatError names the file and the key.
RecipeResult read_result_json(const std::string& path);
/// The same for a file that can be made again: empty, with the reason in `damage`, where it cannot be read or has not
/// `rows` rows or more.
std::optional<RecipeResult> read_whole_result(const std::string& path, std::size_t rows, std::string& damage);

/// The final table as plain text, aligned, with one line that says how much of the divergence is gone.
std::string result_table(const RecipeResult& result);

/// One sentence about what was trained: "Held-out forward KL 0.5455 -> 0.2485 nats (54.4 % gone), ...", or that the
/// student became worse; empty where there are not a row before and one after.
std::string result_summary(const RecipeResult& result);
/// The table as text, one cell a column, the names of the columns first. A column for the objective where that is none
/// of the divergences. Means stand with their 95 % interval over documents where that is known.
std::vector<std::vector<std::string>> evaluation_table(const RecipeResult& result);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/recipe/result_inl.hpp"
#endif

#endif
