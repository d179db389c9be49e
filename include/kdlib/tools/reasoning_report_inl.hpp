// SPDX-License-Identifier: Apache-2.0
// The page of a run in three stages.
#ifndef KDLIB_TOOLS_REASONING_REPORT_INL_HPP
#define KDLIB_TOOLS_REASONING_REPORT_INL_HPP

#include <algorithm>
#include <map>

#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/jsonl.hpp"
#include "kdlib/io/paths.hpp"
#include "kdlib/tools/reasoning_run.hpp"
#include "kdlib/tools/report_html.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// The curves of a file of metrics, in the order in which their names came.
KDLIB_TOOLS_FUNC std::vector<ReportSeries> reasoning_curves(const std::string& path) {
  std::vector<ReportSeries> curves;
  std::map<std::string, std::size_t> places;
  JsonlReader reader(path);
  while (const auto line = reader.next()) {
    const double step = line->at("step").as_double();
    for (const auto& member : line->members()) {
      const std::string name(member.key);
      if (name == "step" || !member.value.is_number()) continue;
      const auto [at, is_new] = places.emplace(name, curves.size());
      if (is_new) curves.push_back({name, {}, {}, name.starts_with("evaluation/")});
      curves[at->second].x.push_back(step);
      curves[at->second].y.push_back(member.value.as_double());
    }
  }
  return curves;
}

/// Charts of at most six curves whose names agree up to their last part.
KDLIB_TOOLS_FUNC void add_reasoning_charts(RunReport& report, const std::string& stage,
                                           const std::vector<ReportSeries>& curves) {
  std::map<std::string, std::vector<const ReportSeries*>> groups;
  for (const ReportSeries& curve : curves) {
    const bool measured = curve.name.starts_with("train/") && curve.name.find('/', 6) == std::string::npos;
    groups[measured ? curve.name : curve.name.substr(0, curve.name.rfind('/'))].push_back(&curve);
  }
  for (const auto& [name, members] : groups)
    for (std::size_t i = 0; i < members.size(); i += 6) {
      ReportChart chart;
      chart.title = concat(stage, ": ", name, i > 0 ? concat(" (", i / 6 + 1, ")") : std::string());
      chart.x_label = "step";
      chart.from_zero = false;
      for (std::size_t k = i; k < std::min(i + 6, members.size()); ++k) chart.series.push_back(*members[k]);
      report.charts.push_back(std::move(chart));
    }
}

}  // namespace detail

KDLIB_TOOLS_FUNC void write_reasoning_report(const std::string& out) {
  RunReport report;
  report.title = "A student from rows of thoughts, in three stages";
  ReportTable table;
  table.title = "Ends of the stages";
  table.header = {"stage", "step", "loss", "thought", "answer", "held-out loss"};
  for (const int stage : {1, 2, 3}) {
    const std::string path = join_path(out, concat("stage", stage, "/metrics.jsonl"));
    if (!path_exists(path)) continue;
    const std::vector<ReportSeries> curves = detail::reasoning_curves(path);
    const auto last = [&curves](const char* name) -> std::string {
      for (const ReportSeries& curve : curves)
        if (curve.name == name) return detail::number_text("%.4g", curve.y.back());
      return "";
    };
    std::string steps;
    for (const ReportSeries& curve : curves)
      if (curve.name == "train/loss") steps = detail::number_text("%.0f", curve.x.back());
    table.rows.push_back({std::to_string(stage), steps, last("train/loss"), last("train/loss/reasoning"),
                          last("train/loss/final"), last("evaluation/synth_loss")});
    detail::add_reasoning_charts(report, concat("stage ", stage), curves);
  }
  report.tables.push_back(std::move(table));
  write_file_atomically(join_path(out, "report.html"), render_html(report));
}

KDLIB_NAMESPACE_END

#endif
