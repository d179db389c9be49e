// SPDX-License-Identifier: Apache-2.0
// What the runs of a sweep found: means and deviations over seeds, as Markdown, JSON, a plot and a page.
#ifndef KDLIB_TOOLS_SWEEP_TABLE_HPP
#define KDLIB_TOOLS_SWEEP_TABLE_HPP

#include <string>
#include <vector>

#include "kdlib/tools/dot_plot.hpp"
#include "kdlib/tools/sweep_runs.hpp"

KDLIB_NAMESPACE_BEGIN

/// Numbers of one finished run, in the order of sweep_metric_names().
struct SweepNumbers {
  std::vector<double> values;
};

/// forward_kl_before, forward_kl, forward_kl_gone (share), reverse_kl_before, reverse_kl, top1_before, top1,
/// top1_recovered (share of the gap to 1), perplexity_teacher, perplexity_before, perplexity, seconds. "before" is the
/// rounded student, the others the distilled one; held-out text.
const std::vector<std::string>& sweep_metric_names();

/// Reads result.json of a run.
SweepNumbers read_sweep_numbers(const std::string& folder);

/// Runs that differ in the seed alone.
struct SweepRow {
  std::vector<std::string> labels;        // of the axes but the seed
  std::vector<std::size_t> runs;          // indices into the plan
  std::vector<double> means, deviations;  // by metric, over the finished runs; sample deviation, NaN for fewer than two
  std::size_t finished = 0;
};

/// The runs of a sweep and their means over seeds.
struct SweepResult {
  std::vector<std::string> axes;  // but the seed
  std::vector<SweepRow> rows;
  std::vector<SweepStatus> statuses;  // by run
  std::vector<SweepNumbers> numbers;  // by run; empty where it is not finished
};

/// Reads result.json of every run. Runs that are not finished have empty numbers.
SweepResult collect_sweep(const SweepPlan& plan);

/// A table of rows, then every run that is not there with its reason.
std::string sweep_markdown(const SweepPlan& plan, const SweepResult& result);
std::string sweep_json(const SweepPlan& plan, const SweepResult& result);
/// Held-out forward KL before and after; colours tell the axis of fewest values (of two to six) apart.
DotPlot sweep_plot(const SweepPlan& plan, const SweepResult& result);
/// One self-contained page with the plot and the table.
std::string sweep_html(const SweepPlan& plan, const SweepResult& result);

/// UsageError where the folder holds files of these names and is no sweep's.
void check_sweep_folder(const SweepPlan& plan);
/// Before the first run: a later call knows the folder as a sweep's by its sweep.json.
void mark_sweep_folder(const SweepPlan& plan);

/// Writes table.md, sweep.json, plot.svg and report.html into the sweep's folder.
void write_sweep_files(const SweepPlan& plan, const SweepResult& result);

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/sweep_table_inl.hpp"
#endif

#endif
