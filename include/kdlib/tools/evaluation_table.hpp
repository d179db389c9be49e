// SPDX-License-Identifier: Apache-2.0
// The results of the program `evaluate`: numbers by model and task, as a table and as JSON.
#ifndef KDLIB_TOOLS_EVALUATION_TABLE_HPP
#define KDLIB_TOOLS_EVALUATION_TABLE_HPP

#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN

/// One number. A standard error of NaN means that there is none.
struct TaskNumber {
  std::string name;  // "acc", "byte_perplexity"
  double value = 0;
  double error = std::numeric_limits<double>::quiet_NaN();
  const char* format = "%.4f";
};

/// The numbers of one task.
struct TaskResult {
  std::string task;
  std::vector<TaskNumber> numbers;
  std::vector<std::pair<std::string, double>> counts;  // documents and tokens; only written to JSON
};

/// The numbers of one model, for evaluation_table.
struct ModelResult {
  std::string name, model, adapter;
  double seconds = 0;
  std::vector<TaskResult> tasks;
};

/// Returns a value that occurs twice in a list, or an empty text.
std::string doubled_value(std::vector<std::string> list);

/// Returns a name for each column of the table. There is one column for each model, or for each adapter of a single
/// model ("none" stands for the model itself). The names are `given`, or else the last parts of the paths, or the whole
/// paths if two last parts are equal. UsageError: `given` has another number of names or an empty name, or two columns
/// would have the same name.
std::vector<std::string> column_names(const std::vector<std::string>& models, const std::vector<std::string>& adapters,
                                      const std::vector<std::string>& given);

/// Returns a table with one line for each number of each task and one column for each model. Cells are "value ±
/// standard error".
std::string evaluation_table(const std::vector<ModelResult>& models);

/// Returns JSON of this form: {"models": [{"name", "model", "adapter", "seconds", "tasks": {task: {number: value,
/// number_stderr: ..., documents: ...}}}], "settings": {...}}
std::string evaluation_json(const std::vector<ModelResult>& models,
                            const std::vector<std::pair<std::string, std::string>>& settings);

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/evaluation_table_inl.hpp"
#endif

#endif
