// SPDX-License-Identifier: Apache-2.0
// Body of dot_plot.hpp.
#ifndef KDLIB_TOOLS_DOT_PLOT_INL_HPP
#define KDLIB_TOOLS_DOT_PLOT_INL_HPP

#include <algorithm>
#include <cmath>

#include "kdlib/recipe/number_text.hpp"
#include "kdlib/tools/dot_plot.hpp"
#include "kdlib/tools/report_html.hpp"
#include "kdlib/tools/task_text.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

KDLIB_TOOLS_FUNC std::string dot_plot_style() {
  return R"css(<style>
.kp{--bg:#fff;--ink:#1a1a19;--soft:#5f5e5a;--rule:#e2e1dc;--c0:#2a78d6;--c1:#eb6834;--c2:#1baf7a;--c3:#b07a00;
--c4:#8a5cd0;--c5:#d04a7a;font:12.5px system-ui,sans-serif}
@media(prefers-color-scheme:dark){.kp{--bg:#1f1f1e;--ink:#f0efec;--soft:#a5a49e;--rule:#363633;--c0:#3987e5;
--c1:#e0703f;--c2:#1fa878;--c3:#c99a20;--c4:#9f7be0;--c5:#e0658f}}
.kp .b{fill:var(--bg)}.kp text{fill:var(--ink)}.kp .s{fill:var(--soft)}.kp .t{font-weight:600;font-size:14px}
.kp .g{stroke:var(--rule)}.kp .o{fill:var(--bg);stroke:var(--soft);stroke-width:1.5}
.kp .c0{fill:var(--c0);stroke:var(--c0)}.kp .c1{fill:var(--c1);stroke:var(--c1)}.kp .c2{fill:var(--c2);
stroke:var(--c2)}.kp .c3{fill:var(--c3);stroke:var(--c3)}.kp .c4{fill:var(--c4);stroke:var(--c4)}
.kp .c5{fill:var(--c5);stroke:var(--c5)}
.kp .w{stroke-width:2}
</style>)css";
}

class DotPlotWriter {
 public:
  explicit DotPlotWriter(const DotPlot& plot) : plot_(plot), scale_(scale_of(plot)) {
    std::int64_t longest = 8;
    for (const DotPlotRow& row : plot.rows) longest = std::max(longest, count_characters(row.label));
    left_ = 24 + 7.2 * static_cast<double>(longest);
    width_ = left_ + 460;
    height_ = top + line * static_cast<double>(plot.rows.size()) + 46;
  }

  std::string render() {
    out_ = "<svg xmlns=\"http://www.w3.org/2000/svg\" class=\"kp\" viewBox=\"0 0 " + whole(width_) + " " +
           whole(height_) + "\" role=\"img\" aria-label=\"" + html_escape(plot_.title) + "\">\n" + dot_plot_style() +
           "\n<rect class=\"b\" width=\"100%\" height=\"100%\" rx=\"8\"/>\n";
    text(16, 24, "start", "t", plot_.title);
    legend();
    const double bottom = top + line * static_cast<double>(plot_.rows.size());
    for (const auto& [x, label] : scale_.ticks) {
      out_ += "<line class=\"g\" x1=\"" + fine(px(x)) + "\" x2=\"" + fine(px(x)) + "\" y1=\"" + fine(top) + "\" y2=\"" +
              fine(bottom) + "\"/>\n";
      text(px(x), bottom + 16, "middle", "s", label);
    }
    text((left_ + width_ - 20) / 2, bottom + 36, "middle", "s",
         plot_.x_label + (scale_.logarithmic ? ", logarithmic" : ""));
    for (std::size_t i = 0; i < plot_.rows.size(); ++i) row(plot_.rows[i], top + line * (static_cast<double>(i) + 0.5));
    return out_ + "</svg>\n";
  }

 private:
  static constexpr double top = 64, line = 22;

  /// Places of numbers between left and right: a plain axis, or powers of ten with 2 and 5 between them.
  struct Scale {
    bool logarithmic = false;
    double low = 0, high = 1;
    std::vector<std::pair<double, std::string>> ticks;

    double place(double x) const {
      return logarithmic ? std::log10(std::max(x, low) / low) / std::log10(high / low) : (x - low) / (high - low);
    }
  };

  static Scale scale_of(const DotPlot& plot) {
    double low = 1e300, high = -1e300,
           least = 1e300;  // `least` without bars: one that reaches to 0 must not stretch a logarithmic axis
    const auto take = [&](double x) {
      if (!std::isfinite(x)) return;
      low = std::min(low, x);
      high = std::max(high, x);
    };
    for (const DotPlotRow& row : plot.rows) {
      for (const double x : {row.mean, row.before}) {
        take(x);
        if (std::isfinite(x)) least = std::min(least, x);
      }
      if (std::isfinite(row.deviation)) take(row.mean - row.deviation), take(row.mean + row.deviation);
    }
    Scale scale;
    scale.logarithmic = least > 0 && high >= 20 * least && high < 1e300;
    if (!scale.logarithmic) {
      if (high < low) low = 0, high = 1;
      const Axis axis(std::min(low, 0.0), high, 5);
      scale.low = axis.low;
      scale.high = axis.high;
      for (double x = axis.low; x <= axis.high + axis.step * 1e-6; x += axis.step)
        scale.ticks.emplace_back(x, axis.label(x));
      return scale;
    }
    for (int power = static_cast<int>(std::floor(std::log10(least))) - 1;
         scale.ticks.empty() || scale.ticks.back().first < high; ++power)
      for (const double digit : {1.0, 2.0, 5.0}) {
        const double x = digit * std::pow(10.0, power);
        if (x <= least * (1 + 1e-9)) scale.ticks.clear();  // the last one below is where the axis begins
        if (scale.ticks.empty() || scale.ticks.back().first < high) scale.ticks.emplace_back(x, number_text("%g", x));
      }
    scale.low = scale.ticks.front().first;
    scale.high = scale.ticks.back().first;
    return scale;
  }
  static std::string whole(double x) { return number_text("%.0f", x); }
  static std::string fine(double x) { return number_text("%.1f", x); }
  double px(double x) const { return left_ + scale_.place(x) * (width_ - 24 - left_); }

  void text(double x, double y, const char* anchor, const char* kind, const std::string& label) {
    out_ += "<text class=\"" + std::string(kind) + "\" x=\"" + fine(x) + "\" y=\"" + fine(y) + "\" text-anchor=\"" +
            anchor + "\">" + html_escape(label) + "</text>\n";
  }
  void dot(const std::string& kind, double x, double y, const std::string& tip) {
    out_ += "<circle class=\"" + kind + "\" cx=\"" + fine(px(x)) + "\" cy=\"" + fine(y) + "\" r=\"4.5\"><title>" +
            html_escape(tip) + "</title></circle>\n";
  }
  void legend() {
    double x = 16;
    const auto entry = [&](const std::string& kind, const std::string& name) {
      out_ += "<circle class=\"" + kind + "\" cx=\"" + fine(x + 5) + "\" cy=\"42\" r=\"4.5\"/>\n";
      text(x + 15, 46, "start", "s", name);
      x += 31 + 7.0 * static_cast<double>(count_characters(name));
    };
    if (!plot_.before_name.empty()) entry("o", plot_.before_name);
    for (std::size_t c = 0; c < plot_.colors.size(); ++c) entry("c" + std::to_string(c % 6), plot_.colors[c]);
  }
  void row(const DotPlotRow& r, double y) {
    const std::string color = "c" + std::to_string(r.color % 6);
    text(left_ - 10, y + 4, "end", "l", r.label);
    if (std::isfinite(r.before))
      dot("o", r.before, y, r.label + ", " + plot_.before_name + ": " + number_text("%.5g", r.before));
    if (!std::isfinite(r.mean)) return text(left_ + 6, y + 4, "start", "s", "no result");
    std::string tip = r.label + ", " + plot_.mean_name + ": " + number_text("%.5g", r.mean);
    if (std::isfinite(r.deviation)) {
      out_ += "<line class=\"w " + color + "\" x1=\"" + fine(px(r.mean - r.deviation)) + "\" x2=\"" +
              fine(px(r.mean + r.deviation)) + "\" y1=\"" + fine(y) + "\" y2=\"" + fine(y) + "\"/>\n";
      tip += " \xC2\xB1 " + number_text("%.2g", r.deviation);
    }
    dot(color, r.mean, y, tip);
  }

  const DotPlot& plot_;
  Scale scale_;
  double left_ = 0, width_ = 0, height_ = 0;
  std::string out_;
};

}  // namespace detail

KDLIB_TOOLS_FUNC std::string dot_plot_svg(const DotPlot& plot) { return detail::DotPlotWriter(plot).render(); }

KDLIB_NAMESPACE_END

#endif
