// SPDX-License-Identifier: Apache-2.0
// The numbers of a finished or running distillation for other tools: TensorBoard, MLflow, and tables.
#ifndef KDLIB_TOOLS_RUN_EXPORT_HPP
#define KDLIB_TOOLS_RUN_EXPORT_HPP

#include <cstdint>
#include <string>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN

/// What a run's metrics are written as: `tensorboard`, an event file; `csv`, metrics.csv with a row a step and a column
/// a metric (empty where a step has none); `mlflow`, batch-<n>.json, each the body of a request `runs/log-batch` of
/// MLflow's REST interface with at most 1000 metrics.
enum class RunExportForm : std::uint8_t { tensorboard, csv, mlflow };

/// What export_run() wrote.
struct RunExportResult {
  std::int64_t steps = 0, values = 0, not_finite = 0;  // not_finite: left out, since the form has no place for them
  std::string path;                                    // the file, or the first of several
  std::int64_t files = 0;
};

/// Reads `folder`/metrics.jsonl and writes it into the folder `out`, which is made. `run_id`: MLflow's id of the run
/// that takes the metrics. FormatError: a line is not one of metrics. IoError: no such run, or a file cannot be
/// written.
RunExportResult export_run(const std::string& folder, RunExportForm form, const std::string& out,
                           const std::string& run_id = "");

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/tools/run_export_inl.hpp"
#endif

#endif
