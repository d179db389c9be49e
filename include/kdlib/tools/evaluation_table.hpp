// SPDX-License-Identifier: Apache-2.0
// What the program `evaluate` found: numbers by model and task, as a table and as JSON.
#ifndef KDLIB_TOOLS_EVALUATION_TABLE_HPP
#define KDLIB_TOOLS_EVALUATION_TABLE_HPP

#include <limits>
#include <string>
#include <utility>
#include <vector>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN

/// One number; a standard error of NaN is none.
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
  std::vector<std::pair<std::string, double>> counts;  // documents, tokens: JSON alone
};

/// The numbers of one model, for evaluation_table.
struct ModelResult {
  std::string name, model, adapter;
  double seconds = 0;
  std::vector<TaskResult> tasks;
};

/// The first value that stands twice in a list, or an empty text.
std::string doubled_value(std::vector<std::string> list);

/// A name for each column, one a model or one an adapter of a single model ("none": the model itself): `given`, else
/// the last parts of the paths, else, where two of these are equal, the whole paths. UsageError: another number of
/// names, an empty name, a name that two columns would have.
std::vector<std::string> column_names(const std::vector<std::string>& models, const std::vector<std::string>& adapters,
                                      const std::vector<std::string>& given);

/// Lines are task and number, columns are the models; "value ± standard error".
std::string evaluation_table(const std::vector<ModelResult>& models);

/// {"models": [{"name", "model", "adapter", "seconds", "tasks": {task: {number: value, number_stderr: ..., documents:
/// ...}}}], "settings": {...}}
std::string evaluation_json(const std::vector<ModelResult>& models,
                            const std::vector<std::pair<std::string, std::string>>& settings);

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/evaluation_table_inl.hpp"
#endif

#endif
