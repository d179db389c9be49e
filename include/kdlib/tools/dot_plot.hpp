// SPDX-License-Identifier: Apache-2.0
// A plot of means with error bars, one line for each configuration, as self-contained SVG for light and dark pages.
#ifndef KDLIB_TOOLS_DOT_PLOT_HPP
#define KDLIB_TOOLS_DOT_PLOT_HPP

#include <limits>
#include <string>
#include <vector>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN

/// One line of the plot: a filled dot at `mean` with a bar of +- `deviation`, and an open dot at `before`. A deviation
/// or `before` that is not finite is left out; for a mean that is not finite the line says "no result".
struct DotPlotRow {
  std::string label;
  double mean = 0;
  double deviation = std::numeric_limits<double>::quiet_NaN();
  double before = std::numeric_limits<double>::quiet_NaN();
  int color = 0;  // 0 to 5; number of the colour
};

/// A plot of means with deviations, one row for each configuration.
struct DotPlot {
  std::string title, x_label, mean_name, before_name;
  std::vector<std::string> colors;  // names of the colours 0, 1, ... in the legend; empty: no names
  std::vector<DotPlotRow> rows;
};

/// Returns a complete SVG file, which can also be put into an HTML page. If all values are positive, the axis begins at
/// 0. If moreover the largest value is at least 20 times the smallest, the axis is logarithmic instead, and its label
/// says so.
std::string dot_plot_svg(const DotPlot& plot);

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/dot_plot_inl.hpp"
#endif

#endif
