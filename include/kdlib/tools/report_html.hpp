// SPDX-License-Identifier: Apache-2.0
// One self-contained HTML page for a run: charts (inline SVG), a table, texts side by side. No network, light and dark.
#ifndef KDLIB_TOOLS_REPORT_HTML_HPP
#define KDLIB_TOOLS_REPORT_HTML_HPP

#include <string>
#include <utility>
#include <vector>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN

/// One line of a chart. Points whose y is not finite are left out (the line breaks there).
struct ReportSeries {
  std::string name;
  std::vector<double> x, y;  // equal lengths
  bool points = false;       // draw markers too: for values that were measured only now and then
};

/// Curves over one axis.
struct ReportChart {
  std::string title, x_label, y_label;
  std::vector<ReportSeries> series;  // at most six
  bool from_zero = true;             // the y axis begins at 0
};

/// The first column is text, the others are right-aligned.
struct ReportTable {
  std::string title, note;
  std::vector<std::string> header;
  std::vector<std::vector<std::string>> rows;
};

/// A prompt with the answers of several models.
struct ReportSample {
  std::string prompt;
  std::vector<std::pair<std::string, std::string>> answers;  // who, text
};

/// A token of a text with one value a row of the heat map. Values that are not finite leave the token without colour.
struct ReportToken {
  std::string text;
  std::vector<double> values;  // one a row
};

/// One text, drawn once a row ("before", "after"): the ground of a token is the stronger, the larger its value is.
struct ReportHeatMap {
  std::string title, unit;        // the first map's title stands above all
  std::vector<std::string> rows;  // their names
  std::vector<ReportToken> tokens;
  double full = 1;  // the value of the strongest ground, > 0
};

/// The parts of report.html.
struct RunReport {
  std::string title, summary;
  std::vector<std::pair<std::string, std::string>> facts;  // name, value: settings and the machine
  std::vector<std::string> figures;                        // SVG texts (dot_plot.hpp), put in as they are
  std::vector<ReportTable> tables;
  std::vector<ReportChart> charts;
  std::vector<ReportHeatMap> heat_maps;
  std::vector<ReportSample> samples;
  std::vector<std::pair<std::string, std::string>> next_steps;  // what for, command
};

/// The page as UTF-8 text. Everything that comes from outside is escaped.
std::string render_html(const RunReport& report);

namespace detail {
/// `text` with the characters that mean something in HTML written as entities.
std::string html_escape(const std::string& text);
}  // namespace detail

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/report_html_inl.hpp"
#endif

#endif
