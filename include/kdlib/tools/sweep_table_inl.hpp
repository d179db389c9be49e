// SPDX-License-Identifier: Apache-2.0
// Bodies of sweep_table.hpp.
#ifndef KDLIB_TOOLS_SWEEP_TABLE_INL_HPP
#define KDLIB_TOOLS_SWEEP_TABLE_INL_HPP

#include <algorithm>
#include <cmath>

#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/json.hpp"
#include "kdlib/io/json_writer.hpp"
#include "kdlib/io/paths.hpp"
#include "kdlib/recipe/result.hpp"
#include "kdlib/tools/output_lock.hpp"
#include "kdlib/tools/sweep_table.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

KDLIB_TOOLS_FUNC double share(double part, double whole) { return whole != 0 ? part / whole : std::nan(""); }

KDLIB_TOOLS_FUNC std::size_t metric_index(const char* name) {
  const auto& names = sweep_metric_names();
  return static_cast<std::size_t>(std::find(names.begin(), names.end(), name) - names.begin());
}

KDLIB_TOOLS_FUNC std::string mean_text(const SweepRow& row, const char* metric, const char* format, double factor = 1) {
  const std::size_t m = metric_index(metric);
  if (row.finished == 0 || !std::isfinite(row.means[m])) return "\xE2\x80\x93";
  std::string out = number_text(format, factor * row.means[m]);
  if (std::isfinite(row.deviations[m])) out += " \xC2\xB1 " + number_text(format, factor * row.deviations[m]);
  return out;
}

struct SweepColumn {
  const char *title, *metric, *format;
  double factor;
};
inline constexpr SweepColumn sweep_columns[] = {{"forward KL rounded", "forward_kl_before", "%.4f", 1},
                                                {"distilled", "forward_kl", "%.4f", 1},
                                                {"gone %", "forward_kl_gone", "%.1f", 100},
                                                {"top-1 rounded", "top1_before", "%.4f", 1},
                                                {"distilled", "top1", "%.4f", 1},
                                                {"gap recovered %", "top1_recovered", "%.1f", 100},
                                                {"perplexity", "perplexity", "%.3f", 1},
                                                {"seconds", "seconds", "%.1f", 1}};

KDLIB_TOOLS_FUNC std::vector<std::string> sweep_header(const SweepResult& result) {
  std::vector<std::string> out = result.axes;
  out.emplace_back("runs");
  for (const SweepColumn& c : sweep_columns) out.emplace_back(c.title);
  return out;
}

KDLIB_TOOLS_FUNC std::vector<std::string> sweep_cells(const SweepRow& row) {
  std::vector<std::string> out = row.labels;
  out.push_back(row.finished == row.runs.size() ? std::to_string(row.finished)
                                                : concat(row.finished, " of ", row.runs.size()));
  for (const SweepColumn& c : sweep_columns) out.push_back(mean_text(row, c.metric, c.format, c.factor));
  return out;
}

/// A label or message as one cell of a Markdown table: its own marks are no marks, control characters are visible.
KDLIB_TOOLS_FUNC std::string markdown_text(std::string_view text) {
  std::string out;
  const std::string shown = terminal_text(text);
  for (std::size_t i = 0; i < shown.size(); ++i) {
    const char c = shown[i];
    if (c == '\n' || c == '\t') {
      out += ' ';
      continue;
    }
    const bool ends_link_text = c == ']' && i + 1 < shown.size() && shown[i + 1] == '(';
    if (ends_link_text || std::string_view("\\`*<>|&#~").find(c) != std::string_view::npos) out += '\\';
    out += c;
  }
  return out;
}

/// What is not there, with its reason: one line a run.
KDLIB_TOOLS_FUNC std::vector<std::string> sweep_problems(const SweepPlan& plan, const SweepResult& result) {
  std::vector<std::string> out;
  for (std::size_t r = 0; r < plan.runs.size(); ++r)
    if (result.statuses[r].state != SweepState::done)
      out.push_back(concat(plan.runs[r].name, ": ",
                           result.statuses[r].state == SweepState::failed ? "failed, " + result.statuses[r].error
                                                                          : std::string("not finished")));
  return out;
}

inline const char* const sweep_note =
    "Held-out text, means over seeds \xC2\xB1 sample deviation. KL in nats a token; gone: 1 - distilled / rounded; gap "
    "recovered: (distilled - rounded) / (1 - rounded) of top-1 agreement "
    "with the teacher; seconds: wall time of the steps.";

}  // namespace detail

KDLIB_TOOLS_FUNC const std::vector<std::string>& sweep_metric_names() {
  static const std::vector<std::string> names{
      "forward_kl_before", "forward_kl", "forward_kl_gone", "reverse_kl_before",  "reverse_kl",
      "top1_before",       "top1",       "top1_recovered",  "perplexity_teacher", "perplexity_before",
      "perplexity",        "seconds"};
  return names;
}

KDLIB_TOOLS_FUNC SweepNumbers read_sweep_numbers(const std::string& folder) {
  const std::string path = join_path(folder, "result.json");
  const RecipeResult r = read_result_json(path);
  require<FormatError>(r.rows.size() >= 3, "[sweep] ", path, ": models has ", r.rows.size(),
                       " entries; teacher, student before and distilled are needed");
  const EvaluationRow &teacher = r.rows[0], &before = r.rows[1], &after = r.rows.back();
  return {{before.forward_kl, after.forward_kl, detail::share(before.forward_kl - after.forward_kl, before.forward_kl),
           before.reverse_kl, after.reverse_kl, before.top1, after.top1,
           detail::share(after.top1 - before.top1, 1 - before.top1), teacher.perplexity, before.perplexity,
           after.perplexity, r.seconds}};
}

KDLIB_TOOLS_FUNC SweepResult collect_sweep(const SweepPlan& plan) {
  SweepResult out;
  const std::size_t seed = plan.seed_axis();
  for (std::size_t a = 0; a < plan.axes.size(); ++a)
    if (a != seed) out.axes.push_back(plan.axes[a]);
  for (std::size_t r = 0; r < plan.runs.size(); ++r) {
    out.statuses.push_back(sweep_status(plan, plan.runs[r]));
    out.numbers.push_back(out.statuses[r].state == SweepState::done ? read_sweep_numbers(plan.folder(plan.runs[r]))
                                                                    : SweepNumbers{});
    std::vector<std::string> labels = plan.runs[r].labels;
    if (seed < labels.size()) labels.erase(labels.begin() + static_cast<std::ptrdiff_t>(seed));
    auto row = std::find_if(out.rows.begin(), out.rows.end(), [&](const SweepRow& x) { return x.labels == labels; });
    if (row == out.rows.end()) {
      out.rows.push_back({labels, {}, {}, {}, 0});
      row = out.rows.end() - 1;
    }
    row->runs.push_back(r);
  }
  const std::size_t metrics = sweep_metric_names().size();
  for (SweepRow& row : out.rows) {
    row.means.assign(metrics, std::nan(""));
    row.deviations.assign(metrics, std::nan(""));
    for (const std::size_t r : row.runs) row.finished += !out.numbers[r].values.empty();
    if (row.finished == 0) continue;
    const auto n = static_cast<double>(row.finished);
    for (std::size_t m = 0; m < metrics; ++m) {
      double mean = 0, squares = 0;
      for (const std::size_t r : row.runs)
        if (!out.numbers[r].values.empty()) mean += out.numbers[r].values[m] / n;
      for (const std::size_t r : row.runs)
        if (!out.numbers[r].values.empty())
          squares += (out.numbers[r].values[m] - mean) * (out.numbers[r].values[m] - mean);
      row.means[m] = mean;
      if (row.finished > 1) row.deviations[m] = std::sqrt(squares / (n - 1));
    }
  }
  return out;
}

KDLIB_TOOLS_FUNC std::string sweep_markdown(const SweepPlan& plan, const SweepResult& result) {
  std::string out;
  const auto line = [&out](const std::vector<std::string>& cells) {
    for (const std::string& cell : cells) out += "| " + detail::markdown_text(cell) + " ";
    out += "|\n";
  };
  const std::vector<std::string> header = detail::sweep_header(result);
  line(header);
  for (std::size_t i = 0; i < header.size(); ++i) out += i < result.axes.size() ? "|---" : "|--:";
  out += "|\n";
  for (const SweepRow& row : result.rows) line(detail::sweep_cells(row));
  out += concat("\n", detail::sweep_note, "\n");
  const std::vector<std::string> problems = detail::sweep_problems(plan, result);
  if (!problems.empty()) out += concat("\n", problems.size(), " of ", plan.runs.size(), " runs have no result:\n\n");
  for (const std::string& problem : problems) out += "- " + detail::markdown_text(problem) + "\n";
  return out;
}

KDLIB_TOOLS_FUNC std::string sweep_json(const SweepPlan& plan, const SweepResult& result) {
  JsonWriter json(JsonStyle{1, NonFinite::null});
  const auto& names = sweep_metric_names();
  json.begin_object().member("file", file_name(plan.path)).member("axes", result.axes).key("rows").begin_array();
  for (const SweepRow& row : result.rows) {
    json.begin_object()
        .member("labels", row.labels)
        .member("runs", row.runs.size())
        .member("finished", row.finished)
        .key("metrics")
        .begin_object();
    for (std::size_t m = 0; m < names.size(); ++m)
      json.key(names[m]).begin_object().member("mean", row.means[m]).member("sd", row.deviations[m]).end_object();
    json.end_object().end_object();
  }
  json.end_array().key("runs").begin_array();
  for (std::size_t r = 0; r < plan.runs.size(); ++r) {
    const SweepRun& run = plan.runs[r];
    json.begin_object().member("name", run.name).key("labels").begin_object();
    for (std::size_t a = 0; a < plan.axes.size(); ++a) json.member(plan.axes[a], run.labels[a]);
    json.end_object().key("settings").begin_object();
    for (const FileSetting& s : run.settings) {
      if (s.values.size() == 1) json.member(s.key, s.values[0]);
      else json.member(s.key, s.values);
    }
    const SweepStatus& status = result.statuses[r];
    json.end_object().member("state", status.state == SweepState::done     ? "done"
                                      : status.state == SweepState::failed ? "failed"
                                                                           : "missing");
    if (!status.error.empty()) json.member("error", status.error);
    for (std::size_t m = 0; m < result.numbers[r].values.size(); ++m)
      json.member(names[m], result.numbers[r].values[m]);
    json.end_object();
  }
  return json.end_array().end_object().text();
}

KDLIB_TOOLS_FUNC DotPlot sweep_plot(const SweepPlan& plan, const SweepResult& result) {
  DotPlot plot{"Held-out forward KL", "nats a token", "distilled", "rounded", {}, {}};
  std::size_t axis = result.axes.size(), fewest = 7;
  for (std::size_t a = 0; a < result.axes.size(); ++a) {
    std::vector<std::string> labels;
    for (const SweepRow& row : result.rows)
      if (std::find(labels.begin(), labels.end(), row.labels[a]) == labels.end()) labels.push_back(row.labels[a]);
    if (labels.size() < 2 || labels.size() > 6 || labels.size() >= fewest) continue;
    fewest = labels.size();
    axis = a;
    plot.colors = labels;
  }
  const std::size_t before = detail::metric_index("forward_kl_before"), after = detail::metric_index("forward_kl");
  for (const SweepRow& row : result.rows) {
    DotPlotRow dot;
    for (std::size_t a = 0; a < row.labels.size(); ++a) {
      const bool number = row.labels[a].find_first_not_of("0123456789.e+-") == std::string::npos;
      dot.label += (a == 0 ? "" : " \xC2\xB7 ") + (number ? result.axes[a] + " " : std::string()) + row.labels[a];
    }
    dot.mean = row.means[after];
    dot.deviation = row.deviations[after];
    dot.before = row.means[before];
    if (axis < row.labels.size())
      dot.color =
          static_cast<int>(std::find(plot.colors.begin(), plot.colors.end(), row.labels[axis]) - plot.colors.begin());
    plot.rows.push_back(std::move(dot));
  }
  if (axis < result.axes.size())
    for (std::string& name : plot.colors) name = result.axes[axis] + " " + name;
  (void)plan;
  return plot;
}

KDLIB_TOOLS_FUNC std::string sweep_html(const SweepPlan& plan, const SweepResult& result) {
  RunReport report;
  report.title = "Sweep " + file_name(plan.path);
  const std::vector<std::string> problems = detail::sweep_problems(plan, result);
  report.summary = concat(plan.runs.size() - problems.size(), " of ", plan.runs.size(), " runs finished.");
  report.figures.push_back(dot_plot_svg(sweep_plot(plan, result)));
  ReportTable table{"Means over seeds", detail::sweep_note, detail::sweep_header(result), {}};
  for (const SweepRow& row : result.rows) table.rows.push_back(detail::sweep_cells(row));
  report.tables.push_back(std::move(table));
  if (!problems.empty()) {
    ReportTable missing{"Runs without a result", "", {"run"}, {}};
    for (const std::string& problem : problems) missing.rows.push_back({problem});
    report.tables.push_back(std::move(missing));
  }
  return render_html(report);
}

namespace detail {

/// A sweep writes sweep.json before anything else.
KDLIB_TOOLS_FUNC bool is_sweep_folder(const std::string& folder) {
  try {
    const Json json = Json::parse_file(join_path(folder, "sweep.json"));
    return json.is_object() && json.contains("axes") && json.contains("rows") && json.contains("runs");
  } catch (const Error&) {
    return false;
  }
}

/// Tables and logs do not go into a folder that a run reads.
KDLIB_TOOLS_FUNC void check_out_is_no_model(const SweepPlan& plan) {
  for (const SweepRun& run : plan.runs)
    for (const FileSetting& setting : run.settings)
      for (const char* key : {"teacher", "student", "teacher-adapter", "student-adapter", "cache", "validation-cache"})
        for (const std::string& value : setting.values)
          require<UsageError>(setting.key != key || !is_directory(value) || !would_replace(plan.out, value), "out ",
                              plan.out, " lies in the ", key, " ", value, " of a run: choose another `out`");
}

}  // namespace detail

KDLIB_TOOLS_FUNC void check_sweep_folder(const SweepPlan& plan) {
  detail::check_out_is_no_model(plan);
  if (detail::is_sweep_folder(plan.out)) return;
  for (const char* name : {"table.md", "sweep.json", "plot.svg", "report.html", "runs", "logs"})
    require<UsageError>(!path_exists(join_path(plan.out, name)), join_path(plan.out, name),
                        " is there already and no sweep's (no sweep.json of a sweep lies beside it): choose another "
                        "`out`, or move what is yours away");
}

KDLIB_TOOLS_FUNC void mark_sweep_folder(const SweepPlan& plan) {
  const std::string path = join_path(plan.out, "sweep.json");
  if (path_exists(path)) return;
  JsonWriter json;
  json.begin_object().member("file", file_name(plan.path)).member("axes", plan.axes).key("rows").begin_array();
  json.end_array().key("runs").begin_array().end_array().end_object();
  write_file_atomically(path, json.text() + "\n");
}

KDLIB_TOOLS_FUNC void write_sweep_files(const SweepPlan& plan, const SweepResult& result) {
  write_file_atomically(join_path(plan.out, "table.md"), sweep_markdown(plan, result));
  write_file_atomically(join_path(plan.out, "sweep.json"), sweep_json(plan, result));
  write_file_atomically(join_path(plan.out, "plot.svg"), dot_plot_svg(sweep_plot(plan, result)));
  write_file_atomically(join_path(plan.out, "report.html"), sweep_html(plan, result));
}

KDLIB_NAMESPACE_END

#endif
