// SPDX-License-Identifier: Apache-2.0
// Bodies of report_html.hpp: escaping, axes with round steps, SVG lines, the style sheet.
#ifndef KDLIB_TOOLS_REPORT_HTML_INL_HPP
#define KDLIB_TOOLS_REPORT_HTML_INL_HPP

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "kdlib/core/error.hpp"
#include "kdlib/tools/report_html.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

inline std::string html_escape(const std::string& text) {
  std::string out;
  out.reserve(text.size() + text.size() / 8);
  for (const char c : text) {
    switch (c) {
      case '&':
        out += "&amp;";
        break;
      case '<':
        out += "&lt;";
        break;
      case '>':
        out += "&gt;";
        break;
      case '"':
        out += "&quot;";
        break;
      case '\'':
        out += "&#39;";
        break;
      default:
        if (static_cast<unsigned char>(c) >= 0x20 || c == '\n' || c == '\t') out += c;
        else out += "\xEF\xBF\xBD";  // control characters are not allowed in HTML
    }
  }
  return out;
}

inline std::string number_text(const char* format, double x) {
  char buffer[48];
  std::snprintf(buffer, sizeof buffer, format, x);
  return buffer;
}

/// Round axis steps: 1, 2 or 5 times a power of ten, about `wanted` of them.
struct Axis {
  double low = 0, high = 1, step = 0.2;

  Axis(double from, double to, int wanted) {
    if (!(to > from)) to = from + (from == 0 ? 1 : std::fabs(from) * 0.1);
    const double raw = (to - from) / wanted, power = std::pow(10.0, std::floor(std::log10(raw))), ratio = raw / power;
    step = (ratio <= 1 ? 1 : ratio <= 2 ? 2 : ratio <= 5 ? 5 : 10) * power;
    low = std::floor(from / step + 1e-9) * step;
    high = std::ceil(to / step - 1e-9) * step;
  }
  std::string label(double value) const {
    const int digits = std::clamp(static_cast<int>(std::ceil(-std::log10(step) - 1e-9)), 0, 8);
    char format[16];
    std::snprintf(format, sizeof format, "%%.%df", digits);
    return number_text(format, std::fabs(value) < step * 1e-6 ? 0.0 : value);
  }
};

class ChartWriter {
 public:
  explicit ChartWriter(const ReportChart& chart) : chart_(chart), x_(range(chart, true)), y_(range(chart, false)) {}

  std::string render() {
    out_ = "<figure class=\"card\"><figcaption>" + html_escape(chart_.title) + "</figcaption>";
    legend();
    out_ += "<svg viewBox=\"0 0 640 260\" role=\"img\" aria-label=\"" + html_escape(chart_.title) + "\">";
    grid();
    for (std::size_t i = 0; i < chart_.series.size(); ++i) line(chart_.series[i], i);
    out_ += "</svg></figure>\n";
    return std::move(out_);
  }

 private:
  static constexpr double left = 52, right = 628, top = 10, bottom = 222;

  static Axis range(const ReportChart& chart, bool x) {
    double low = x || !chart.from_zero ? 1e300 : 0, high = -1e300;
    for (const ReportSeries& s : chart.series) {
      for (std::size_t i = 0; i < s.x.size() && i < s.y.size(); ++i) {
        if (!std::isfinite(s.y[i])) continue;
        low = std::min(low, x ? s.x[i] : s.y[i]);
        high = std::max(high, x ? s.x[i] : s.y[i]);
      }
    }
    if (high < -1e299) low = 0, high = 1;
    Axis axis(low, high, x ? 8 : 5);
    if (x) axis.low = low, axis.high = std::max(high, low + 1e-9);
    return axis;
  }
  double px(double x) const { return left + (x - x_.low) / (x_.high - x_.low) * (right - left); }
  double py(double y) const { return bottom - (y - y_.low) / (y_.high - y_.low) * (bottom - top); }

  void text(double x, double y, const char* anchor, const std::string& label) {
    out_ += "<text x=\"" + number_text("%.1f", x) + "\" y=\"" + number_text("%.1f", y) + "\" text-anchor=\"" + anchor +
            "\">" + html_escape(label) + "</text>";
  }
  void legend() {
    if (chart_.series.size() < 2) return;
    out_ += "<div class=\"legend\">";
    for (std::size_t i = 0; i < chart_.series.size(); ++i)
      out_ += "<span><i class=\"s" + std::to_string(i) + "\"></i>" + html_escape(chart_.series[i].name) + "</span>";
    out_ += "</div>";
  }
  void grid() {
    out_ += "<g class=\"grid\">";
    for (double y = y_.low; y <= y_.high + y_.step * 1e-6; y += y_.step) {
      out_ += "<line x1=\"" + number_text("%.0f", left) + "\" x2=\"" + number_text("%.0f", right) + "\" y1=\"" +
              number_text("%.1f", py(y)) + "\" y2=\"" + number_text("%.1f", py(y)) + "\"/>";
      text(left - 6, py(y) + 4, "end", y_.label(y));
    }
    for (double x = std::ceil(x_.low / x_.step) * x_.step; x <= x_.high + x_.step * 1e-6; x += x_.step)
      text(px(x), bottom + 16, "middle", x_.label(x));
    text((left + right) / 2, bottom + 33, "middle", chart_.x_label);
    out_ += "</g>";
    if (!chart_.y_label.empty())
      out_ += "<g class=\"grid\" transform=\"translate(11," + number_text("%.0f", (top + bottom) / 2) +
              ") rotate(-90)\"><text text-anchor=\"middle\">" + html_escape(chart_.y_label) + "</text></g>";
  }
  void line(const ReportSeries& s, std::size_t index) {
    const std::string color = "s" + std::to_string(index);
    std::string path, marks;
    bool pen = false;
    const bool lonely = s.x.size() == 1;
    for (std::size_t i = 0; i < s.x.size() && i < s.y.size(); ++i) {
      if (!std::isfinite(s.y[i])) {
        pen = false;
        continue;
      }
      const std::string x = number_text("%.1f", px(s.x[i])), y = number_text("%.1f", py(s.y[i]));
      path += (pen ? "L" : "M") + x + " " + y;
      pen = true;
      const std::string tip = "<title>" + html_escape(s.name) + ", " + html_escape(chart_.x_label) + " " +
                              number_text("%g", s.x[i]) + ": " + number_text("%.5g", s.y[i]) + "</title>";
      marks += "<circle class=\"" + std::string(s.points || lonely ? "dot " : "hover ") + color + "\" cx=\"" + x +
               "\" cy=\"" + y + "\" r=\"" + (s.points || lonely ? "4" : "7") + "\">" + tip + "</circle>";
    }
    out_ += "<path class=\"line " + color + "\" d=\"" + path + "\"/>" + marks;
  }

  const ReportChart& chart_;
  Axis x_, y_;
  std::string out_;
};

inline std::string report_style() {
  return R"css(<style>
:root{--bg:#f7f7f5;--card:#fff;--ink:#1a1a19;--soft:#5f5e5a;--rule:#e2e1dc;--c0:#2a78d6;--c1:#eb6834;--c2:#1baf7a;
--c3:#b07a00;--c4:#8a5cd0;--c5:#d04a7a}
@media(prefers-color-scheme:dark){:root{--bg:#161615;--card:#1f1f1e;--ink:#f0efec;--soft:#a5a49e;--rule:#363633;
--c0:#3987e5;--c1:#e0703f;--c2:#1fa878;--c3:#c99a20;--c4:#9f7be0;--c5:#e0658f}}
*{box-sizing:border-box}body{margin:0 auto;padding:28px 20px 60px;max-width:1080px;background:var(--bg);
color:var(--ink);font:15px/1.5 system-ui,sans-serif}
h1{font-size:26px;margin:0 0 4px}h2{font-size:18px;margin:34px 0 10px}p.summary{color:var(--soft);margin:0 0 18px;
max-width:75ch}
.card{background:var(--card);border:1px solid var(--rule);border-radius:10px;padding:14px 16px;margin:0}
.charts{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,440px),1fr));gap:16px}
figcaption{font-weight:600;margin-bottom:4px}svg{width:100%;height:auto;display:block}
.grid line{stroke:var(--rule)}.grid text{fill:var(--soft);font-size:11.5px}
.line{fill:none;stroke-width:2;stroke-linejoin:round}.hover{opacity:0}.hover:hover{opacity:.9}
.dot{stroke:var(--card);stroke-width:2}
path.s0{stroke:var(--c0)}path.s1{stroke:var(--c1)}path.s2{stroke:var(--c2)}path.s3{stroke:var(--c3)}
path.s4{stroke:var(--c4)}path.s5{stroke:var(--c5)}
circle.s0{fill:var(--c0)}circle.s1{fill:var(--c1)}circle.s2{fill:var(--c2)}circle.s3{fill:var(--c3)}
circle.s4{fill:var(--c4)}circle.s5{fill:var(--c5)}
.legend{display:flex;flex-wrap:wrap;gap:4px 16px;font-size:13px;color:var(--soft)}.legend i{display:inline-block;
width:14px;height:3px;border-radius:2px;margin-right:6px;vertical-align:middle}
i.s0{background:var(--c0)}i.s1{background:var(--c1)}i.s2{background:var(--c2)}i.s3{background:var(--c3)}
i.s4{background:var(--c4)}i.s5{background:var(--c5)}
.scroll{overflow-x:auto}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{padding:7px 12px;text-align:right;border-bottom:1px solid var(--rule);white-space:nowrap}
th:first-child,td:first-child{text-align:left}th{font-weight:600;color:var(--soft);font-size:13px}
tr:last-child td{border-bottom:0}
.note{color:var(--soft);font-size:13px;margin:8px 0 0}
.sample{margin-bottom:16px}.prompt{font-weight:600;white-space:pre-wrap;margin:0 0 10px}.answers{display:grid;
grid-template-columns:repeat(auto-fit,minmax(min(100%,260px),1fr));gap:14px}
.answers h3{font-size:13px;color:var(--soft);margin:0 0 4px;font-weight:600}.answers p{margin:0;white-space:pre-wrap;
overflow-wrap:anywhere;font-size:14px}
dl{display:grid;grid-template-columns:max-content 1fr;gap:2px 18px;margin:0;font-size:14px}dt{color:var(--soft)}
dd{margin:0;overflow-wrap:anywhere}
@media(max-width:520px){dl{grid-template-columns:1fr}dd{margin-bottom:6px}}
</style>
)css";
}

inline std::string render_table(const ReportTable& table) {
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

inline std::string render_samples(const std::vector<ReportSample>& samples) {
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

inline std::string render_html(const RunReport& report) {
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
  if (!report.samples.empty()) out += detail::render_samples(report.samples);
  if (!report.facts.empty()) {
    out += "<h2>Settings and machine</h2>\n<div class=\"card\"><dl>";
    for (const auto& fact : report.facts)
      out += "<dt>" + detail::html_escape(fact.first) + "</dt><dd>" + detail::html_escape(fact.second) + "</dd>";
    out += "</dl></div>\n";
  }
  return out + "</body></html>\n";
}

KDLIB_NAMESPACE_END

#endif
