// SPDX-License-Identifier: Apache-2.0
// The results of a sweep: means and deviations over seeds, as Markdown, JSON, a plot and a page.
#ifndef KDLIB_TOOLS_SWEEP_TABLE_HPP
#define KDLIB_TOOLS_SWEEP_TABLE_HPP

#include <string>
#include <vector>

#include "kdlib/tools/dot_plot.hpp"
#include "kdlib/tools/sweep_runs.hpp"

KDLIB_NAMESPACE_BEGIN

/// The numbers of one finished run, in the order of sweep_metric_names().
struct SweepNumbers {
  std::vector<double> values;
};

/// Returns the names of the metrics: forward_kl_before, forward_kl, forward_kl_gone (share), reverse_kl_before,
/// reverse_kl, top1_before, top1, top1_recovered (share of the gap to 1), perplexity_teacher, perplexity_before,
/// perplexity, seconds. All but seconds are measured on held-out text. Names with "before" are for the rounded student
/// before the distillation, perplexity_teacher is for the teacher, and the others are for the distilled student.
const std::vector<std::string>& sweep_metric_names();

/// Reads result.json in the folder of a run.
SweepNumbers read_sweep_numbers(const std::string& folder);

/// The runs that differ only in the seed.
struct SweepRow {
  std::vector<std::string> labels;        // labels of all axes except the seed
  std::vector<std::size_t> runs;          // indices into SweepPlan::runs
  std::vector<double> means, deviations;  // by metric, over the finished runs; sample deviation, NaN for fewer than two
  std::size_t finished = 0;
};

/// The runs of a sweep and their means over seeds.
struct SweepResult {
  std::vector<std::string> axes;  // all axes except the seed
  std::vector<SweepRow> rows;
  std::vector<SweepStatus> statuses;  // for each run
  std::vector<SweepNumbers> numbers;  // for each run; empty if the run is not finished
};

/// Reads result.json of every run. Runs that are not finished have empty numbers.
SweepResult collect_sweep(const SweepPlan& plan);

/// Returns a table of the rows, then a list of the runs without a result and the reasons.
std::string sweep_markdown(const SweepPlan& plan, const SweepResult& result);
std::string sweep_json(const SweepPlan& plan, const SweepResult& result);
/// Returns a plot of the forward KL on held-out text before and after the distillation. Colours show the axis with the
/// fewest values, among those with two to six values.
DotPlot sweep_plot(const SweepPlan& plan, const SweepResult& result);
/// Returns one self-contained page with the plot and the table.
std::string sweep_html(const SweepPlan& plan, const SweepResult& result);

/// Throws UsageError if the folder of the sweep holds files with the names of a sweep's files but is not a sweep's
/// folder, or if it lies inside a model or cache that a run reads.
void check_sweep_folder(const SweepPlan& plan);
/// Writes sweep.json before the first run, so that a later call recognises the folder as a sweep's.
void mark_sweep_folder(const SweepPlan& plan);

/// Writes table.md, sweep.json, plot.svg and report.html into the sweep's folder.
void write_sweep_files(const SweepPlan& plan, const SweepResult& result);

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/sweep_table_inl.hpp"
#endif

#endif
