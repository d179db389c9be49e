// SPDX-License-Identifier: Apache-2.0
// The result of a distillation, as result.json and the final table have it.
#ifndef KDLIB_RECIPE_RESULT_HPP
#define KDLIB_RECIPE_RESULT_HPP

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN

/// One model, measured against the teacher on held-out text. Numbers are means over tokens, with natural logarithms.
struct EvaluationRow {
  std::string model;
  double forward_kl = 0, reverse_kl = 0;  // nats
  double top1 = 0, top5 = 0;              // share of equal argmax; common share of the five largest
  double perplexity = 0;                  // of the held-out text
  /// Entropies in nats.
  double student_entropy = 0, teacher_entropy = 0;
  double tokens = 0;
  double objective = 0;  // value of the trained objective on held-out text, nats
  /// Standard errors over documents; NaN if they were not measured.
  double forward_kl_error = 0, reverse_kl_error = 0, top1_error = 0, objective_error = 0;
  std::vector<std::pair<std::string, double>> tasks{};  // other measurements of the caller: "hellaswag/acc"
};

/// The answers to one held-out prompt.
struct SampleAnswers {
  std::string prompt;
  std::vector<std::pair<std::string, std::string>> answers;  // model, text
};

/// A held-out text with the student's distance from the teacher at each token: KL(teacher || student) in nats, or NaN
/// if the token is not part of the answer.
struct TokenMap {
  /// The text of each token. If several ids share the bytes of one letter, the first of them has the letter and the
  /// others are empty.
  std::vector<std::string> tokens;
  std::vector<std::pair<std::string, std::vector<double>>> values;  // which student, one value for each token
};

/// The result of a run. Equal runs give equal results except for `seconds`.
struct RecipeResult {
  std::int64_t steps = 0;
  double seconds = 0;
  std::int64_t best_step = -1;
  /// The teacher; the rounded student (or the student before training); the compensated student, if there was one; the
  /// distilled student.
  std::vector<EvaluationRow> rows;
  std::string objective = "forward_kl";  // name of the measure in the rows' member `objective`
  std::vector<SampleAnswers> samples;
  std::vector<TokenMap> token_maps;
  std::vector<std::pair<std::string, std::string>> facts;
};

/// Returns the text of result.json (docs/formats.md).
std::string result_json(const RecipeResult& result);
/// Reads what result_json wrote. Throws FormatError, which names the file and the key.
RecipeResult read_result_json(const std::string& path);
/// The same for a file that can be made again. Empty, with the reason in `damage`, if the file cannot be read or has
/// fewer than `rows` rows.
std::optional<RecipeResult> read_whole_result(const std::string& path, std::size_t rows, std::string& damage);

/// Returns the final table as plain text, aligned, and a line that says how much of the divergence is gone.
std::string result_table(const RecipeResult& result);

/// Returns a sentence about what was trained: "Held-out forward KL 0.5455 -> 0.2485 nats (54.4 % gone), ...", or that
/// the student became worse. Empty unless there is a row from before and a row from after training.
std::string result_summary(const RecipeResult& result);
/// Returns the table as text, a cell for each column, with the names of the columns first. The objective has its own
/// column unless it is one of the divergences. Means have their 95 % interval over documents if it is known.
std::vector<std::vector<std::string>> evaluation_table(const RecipeResult& result);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/recipe/result_inl.hpp"
#endif

#endif
