// SPDX-License-Identifier: Apache-2.0
// Bodies of report_html.hpp: tables, heat maps, answers, the page.
#ifndef KDLIB_TOOLS_REPORT_HTML_INL_HPP
#define KDLIB_TOOLS_REPORT_HTML_INL_HPP

#include "kdlib/tools/report_chart_inl.hpp"
#include "kdlib/tools/report_html.hpp"
#include "kdlib/tools/report_style_inl.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

KDLIB_TOOLS_FUNC std::string render_table(const ReportTable& table) {
  std::string out =
      "<h2>" + html_escape(table.title) + "</h2>\n<div class=\"card\"><div class=\"scroll\"><table><thead><tr>";
  for (const std::string& cell : table.header) out += "<th scope=\"col\">" + html_escape(cell) + "</th>";
  out += "</tr></thead><tbody>";
  for (const std::vector<std::string>& row : table.rows) {
    out += "<tr>";
    for (const std::string& cell : row) out += "<td>" + html_escape(cell) + "</td>";
    out += "</tr>";
  }
  out += "</tbody></table></div>";
  if (!table.note.empty()) out += "<p class=\"note\">" + html_escape(table.note) + "</p>";
  return out + "</div>\n";
}

/// Text of a token as it is shown: line ends become visible, what is no printable text is replaced.
KDLIB_TOOLS_FUNC std::string shown_token(const std::string& text) {
  std::string out;
  for (const char c : html_escape(text)) {
    if (c == '\n') out += "\xE2\x86\xB5\n";
    else out += c;
  }
  return out;
}

/// One row of a heat map: each token on a ground that is the stronger, the larger its value.
KDLIB_TOOLS_FUNC std::string render_heat_row(const ReportHeatMap& map, std::size_t row) {
  std::string out = "<h3>" + html_escape(map.rows[row]) + "</h3><p>";
  for (const ReportToken& token : map.tokens) {
    const double value = row < token.values.size() ? token.values[row] : std::nan("");
    if (!std::isfinite(value)) {
      out += shown_token(token.text);
      continue;
    }
    const double share = map.full > 0 ? std::clamp(value / map.full, 0.0, 1.0) : 0;
    out += "<b style=\"--v:" + number_text("%.2f", 0.85 * share) + "\" title=\"" + html_escape(token.text) + ": " +
           number_text("%.3f", value) + " " + html_escape(map.unit) + "\">" + shown_token(token.text) + "</b>";
  }
  return out + "</p>";
}

KDLIB_TOOLS_FUNC std::string render_heat_maps(const std::vector<ReportHeatMap>& maps) {
  std::string out = "<h2>" + html_escape(maps.front().title) + "</h2>\n";
  for (const ReportHeatMap& map : maps) {
    out += "<div class=\"card heat\"><p class=\"note\">0<span class=\"scale\"></span>" + number_text("%.3g", map.full) +
           " " + html_escape(map.unit) + " and more</p>";
    for (std::size_t row = 0; row < map.rows.size(); ++row) out += render_heat_row(map, row);
    out += "</div>\n";
  }
  return out;
}

KDLIB_TOOLS_FUNC std::string render_next_steps(const std::vector<std::pair<std::string, std::string>>& steps) {
  std::string out = "<h2>Next steps</h2>\n<div class=\"card next\">";
  for (const auto& [what, command] : steps)
    out += "<p>" + html_escape(what) + "</p><pre>" + html_escape(command) + "</pre>";
  return out + "</div>\n";
}

KDLIB_TOOLS_FUNC std::string render_samples(const std::vector<ReportSample>& samples) {
  std::string out = "<h2>Answers side by side</h2>\n";
  for (const ReportSample& sample : samples) {
    out +=
        "<div class=\"card sample\"><p class=\"prompt\">" + html_escape(sample.prompt) + "</p><div class=\"answers\">";
    for (const auto& answer : sample.answers)
      out += "<div><h3>" + html_escape(answer.first) + "</h3><p>" + html_escape(answer.second) + "</p></div>";
    out += "</div></div>\n";
  }
  return out;
}

}  // namespace detail

KDLIB_TOOLS_FUNC std::string render_html(const RunReport& report) {
  std::string out =
      "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" "
      "content=\"width=device-width,initial-scale=1\">\n"
      "<meta name=\"color-scheme\" content=\"light dark\"><title>" +
      detail::html_escape(report.title) + "</title>\n" + detail::report_style() + "</head><body>\n<h1>" +
      detail::html_escape(report.title) + "</h1>\n<p class=\"summary\">" + detail::html_escape(report.summary) +
      "</p>\n";
  for (const std::string& figure : report.figures) out += "<figure class=\"card\">" + figure + "</figure>\n";
  for (const ReportTable& table : report.tables) out += detail::render_table(table);
  if (!report.charts.empty()) {
    out += "<h2>Over the steps</h2>\n<div class=\"charts\">\n";
    for (const ReportChart& chart : report.charts) out += detail::ChartWriter(chart).render();
    out += "</div>\n";
  }
  if (!report.heat_maps.empty()) out += detail::render_heat_maps(report.heat_maps);
  if (!report.samples.empty()) out += detail::render_samples(report.samples);
  if (!report.next_steps.empty()) out += detail::render_next_steps(report.next_steps);
  if (!report.facts.empty()) {
    out += "<h2>Settings and machine</h2>\n<div class=\"card\"><dl>";
    for (const auto& fact : report.facts)
      out += "<dt>" + detail::html_escape(fact.first) + "</dt><dd>" + detail::html_escape(fact.second) + "</dd>";
    out += "</dl></div>\n";
  }
  if (!report.charts.empty()) out += detail::report_script();
  return out + "</body></html>\n";
}

KDLIB_NAMESPACE_END

#endif
