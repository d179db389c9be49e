// SPDX-License-Identifier: Apache-2.0
// Exports the numbers of a finished or running distillation to other tools: TensorBoard, MLflow and tables.
#ifndef KDLIB_TOOLS_RUN_EXPORT_HPP
#define KDLIB_TOOLS_RUN_EXPORT_HPP

#include <cstdint>
#include <string>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN

/// The format of the exported metrics. `tensorboard`: an event file. `csv`: metrics.csv with a row for each step and a
/// column for each metric (empty if a step lacks the metric). `mlflow`: files batch-<n>.json, each of which is the body
/// of a request `runs/log-batch` of MLflow's REST interface with at most 1000 metrics.
enum class RunExportForm : std::uint8_t { tensorboard, csv, mlflow };

/// The result of export_run().
struct RunExportResult {
  std::int64_t steps = 0, values = 0, not_finite = 0;  // not_finite: left out, as the format cannot store these
  std::string path;                                    // path of the file, or of the first of several files
  std::int64_t files = 0;
};

/// Reads `folder`/metrics.jsonl and writes the metrics into the folder `out`, which is made if necessary. `run_id` is
/// MLflow's id of the run that receives the metrics. FormatError: a line is not a line of metrics. IoError: there is no
/// such run, or a file cannot be written.
RunExportResult export_run(const std::string& folder, RunExportForm form, const std::string& out,
                           const std::string& run_id = "");

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/tools/run_export_inl.hpp"
#endif

#endif
