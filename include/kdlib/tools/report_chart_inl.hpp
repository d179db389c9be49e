// SPDX-License-Identifier: Apache-2.0
// Charts of report_html.hpp: escaping, axes with round steps, SVG lines with the value of each point.
#ifndef KDLIB_TOOLS_REPORT_CHART_INL_HPP
#define KDLIB_TOOLS_REPORT_CHART_INL_HPP

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "kdlib/core/error.hpp"
#include "kdlib/recipe/number_text.hpp"
#include "kdlib/tools/report_html.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

KDLIB_TOOLS_FUNC std::string html_escape(const std::string& text) {
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
    out_ += "<line class=\"at\" y1=\"" + number_text("%.0f", top) + "\" y2=\"" + number_text("%.0f", bottom) +
            "\"/></svg><div class=\"tip\"></div></figure>\n";
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

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
