// SPDX-License-Identifier: Apache-2.0
// Makes one self-contained HTML page for a run: charts (inline SVG), tables, and texts side by side. The page needs no
// network and has a light and a dark style.
#ifndef KDLIB_TOOLS_REPORT_HTML_HPP
#define KDLIB_TOOLS_REPORT_HTML_HPP

#include <string>
#include <utility>
#include <vector>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN

/// One line of a chart. The line is interrupted at points whose y is not finite.
struct ReportSeries {
  std::string name;
  std::vector<double> x, y;  // equal lengths
  bool points = false;       // true: draws markers, too, for values that were measured only now and then
};

/// A chart: curves over a common axis.
struct ReportChart {
  std::string title, x_label, y_label;
  std::vector<ReportSeries> series;  // at most six
  bool from_zero = true;             // the y axis begins at 0
};

/// A table. The first column is text; the other columns are aligned to the right.
struct ReportTable {
  std::string title, note;
  std::vector<std::string> header;
  std::vector<std::vector<std::string>> rows;
};

/// A prompt with the answers of several models.
struct ReportSample {
  std::string prompt;
  std::vector<std::pair<std::string, std::string>> answers;  // pairs (model, text)
};

/// A token of a text with one value for each row of the heat map. A value that is not finite leaves the token without
/// colour.
struct ReportToken {
  std::string text;
  std::vector<double> values;  // one value for each row
};

/// A text that is drawn once for each row ("before", "after"). The larger the value of a token, the stronger is its
/// background colour.
struct ReportHeatMap {
  std::string title, unit;        // the title of the first map stands above all maps
  std::vector<std::string> rows;  // names of the rows
  std::vector<ReportToken> tokens;
  double full = 1;  // > 0; the value that gets the strongest colour
};

/// The parts of report.html.
struct RunReport {
  std::string title, summary;
  std::vector<std::pair<std::string, std::string>> facts;  // pairs (name, value): settings and the machine
  std::vector<std::string> figures;                        // SVG texts (dot_plot.hpp), inserted without changes
  std::vector<ReportTable> tables;
  std::vector<ReportChart> charts;
  std::vector<ReportHeatMap> heat_maps;
  std::vector<ReportSample> samples;
  std::vector<std::pair<std::string, std::string>> next_steps;  // pairs (purpose, command)
};

/// Returns the page as UTF-8 text. Every text in the report, except the figures, is escaped.
std::string render_html(const RunReport& report);

namespace detail {
/// Returns `text` with the special characters of HTML replaced by entities.
std::string html_escape(const std::string& text);
}  // namespace detail

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/report_html_inl.hpp"
#endif

#endif
