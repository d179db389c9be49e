// SPDX-License-Identifier: Apache-2.0
// Bodies of run_export.hpp.
#ifndef KDLIB_TOOLS_RUN_EXPORT_INL_HPP
#define KDLIB_TOOLS_RUN_EXPORT_INL_HPP

#include <sys/stat.h>

#include <algorithm>
#include <cmath>
#include <utility>
#include <vector>

#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/json_writer.hpp"
#include "kdlib/io/jsonl.hpp"
#include "kdlib/io/paths.hpp"
#include "kdlib/tools/run_export.hpp"
#include "kdlib/train/tensorboard.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {
/// One line of metrics.jsonl.
struct RunStep {
  std::int64_t step = 0;
  double seconds = 0;  // since 1970
  std::vector<std::pair<std::string, double>> values;
};

/// All lines. A step's "time" counts from the start of the run, whose end is when the file was written last.
KDLIB_TOOLS_FUNC std::vector<RunStep> read_run(const std::string& folder) {
  const std::string path = join_path(folder, "metrics.jsonl");
  require<IoError>(path_exists(path), "[export] ", path, " is not there: give the folder of a run of distil");
  std::vector<RunStep> steps;
  JsonlReader lines(path);
  while (const auto line = lines.next()) {
    RunStep step;
    for (std::size_t i = 0; i < line->size(); ++i) {
      const std::string name(line->key(i));
      const Json value = (*line)[i];
      if (name == "step") step.step = value.as_int();
      else step.values.emplace_back(name, value.kind() == Json::Kind::null ? std::nan("") : value.as_double());
      if (name == "time") step.seconds = value.as_double();
    }
    require<FormatError>(line->contains("step"), "[export] ", lines.place(), ": the line has no \"step\"");
    steps.push_back(std::move(step));
  }
  struct stat about {};
  const bool known = ::stat(path.c_str(), &about) == 0 && !steps.empty();
  const double start = known ? static_cast<double>(about.st_mtime) - steps.back().seconds : 0;
  for (RunStep& step : steps) step.seconds += start;
  return steps;
}

KDLIB_TOOLS_FUNC void write_events(const std::vector<RunStep>& steps, const std::string& out, RunExportResult& result) {
  TensorBoardEvents events(out);
  for (const RunStep& step : steps) {
    events.set_time(step.seconds);
    for (const auto& [name, value] : step.values) events.scalar(name, step.step, value);
    result.values += static_cast<std::int64_t>(step.values.size());
  }
  events.flush();
  result.path = events.path();
  result.files = 1;
}

KDLIB_TOOLS_FUNC void write_table(const std::vector<RunStep>& steps, const std::string& out, RunExportResult& result) {
  std::vector<std::string> names;
  const auto column = [&](const std::string& name) {
    const auto at = std::find(names.begin(), names.end(), name);
    if (at != names.end()) return static_cast<std::size_t>(at - names.begin());
    names.push_back(name);
    return names.size() - 1;
  };
  std::vector<std::vector<std::string>> rows;  // each as long as its last value needs
  for (const RunStep& step : steps) {
    std::vector<std::string>& row = rows.emplace_back();
    for (const auto& [name, value] : step.values) {
      const std::size_t at = column(name);
      if (row.size() <= at) row.resize(at + 1);
      row[at] = std::isfinite(value) ? JsonWriter().value(value).text() : "nan";
      ++result.values;
    }
  }
  std::string text = "step";
  for (const std::string& name : names) text += "," + name;
  text += '\n';
  for (std::size_t i = 0; i < rows.size(); ++i) {
    rows[i].resize(names.size());
    text += std::to_string(steps[i].step);
    for (const std::string& cell : rows[i]) text += "," + cell;
    text += '\n';
  }
  result.path = join_path(out, "metrics.csv");
  write_file_atomically(result.path, text);
  result.files = 1;
}

/// MLflow takes letters, digits and `_-. /` in names; JSON has no place for NaN.
KDLIB_TOOLS_FUNC void write_batches(const std::vector<RunStep>& steps, const std::string& out,
                                    const std::string& run_id, RunExportResult& result) {
  constexpr std::int64_t largest = 1000;  // metrics of one request
  JsonWriter text(JsonStyle{0});
  std::int64_t count = 0;
  const auto close = [&] {
    if (count == 0) return;
    text.end_array().end_object();
    const std::string path = join_path(out, concat("batch-", ++result.files, ".json"));
    if (result.path.empty()) result.path = path;
    write_file_atomically(path, text.text() + "\n");
    text = JsonWriter(JsonStyle{0});
    count = 0;
  };
  for (const RunStep& step : steps)
    for (const auto& [name, value] : step.values) {
      if (!std::isfinite(value)) {
        ++result.not_finite;
        continue;
      }
      if (count == 0) text.begin_object().member("run_id", run_id).key("metrics").begin_array();
      text.begin_object()
          .member("key", name)
          .member("value", value)
          .member("timestamp", static_cast<std::int64_t>(step.seconds * 1e3))
          .member("step", step.step)
          .end_object();
      ++result.values;
      if (++count == largest) close();
    }
  close();
}
}  // namespace detail

KDLIB_TOOLS_FUNC RunExportResult export_run(const std::string& folder, RunExportForm form, const std::string& out,
                                            const std::string& run_id) {
  const std::vector<detail::RunStep> steps = detail::read_run(folder);
  require<FormatError>(!steps.empty(), "[export] ", folder, "/metrics.jsonl holds no line yet");
  make_directories(out);
  RunExportResult result;
  result.steps = static_cast<std::int64_t>(steps.size());
  if (form == RunExportForm::tensorboard) detail::write_events(steps, out, result);
  else if (form == RunExportForm::csv) detail::write_table(steps, out, result);
  else detail::write_batches(steps, out, run_id, result);
  return result;
}

KDLIB_NAMESPACE_END

#endif
