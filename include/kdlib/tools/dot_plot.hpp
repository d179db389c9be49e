// SPDX-License-Identifier: Apache-2.0
// A plot of means with error bars, one line a configuration: self-contained SVG, light and dark.
#ifndef KDLIB_TOOLS_DOT_PLOT_HPP
#define KDLIB_TOOLS_DOT_PLOT_HPP

#include <limits>
#include <string>
#include <vector>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN

/// A filled dot at `mean` with a bar of +- `deviation`; an open one at `before`. Values that are not finite are left
/// out.
struct DotPlotRow {
  std::string label;
  double mean = 0;
  double deviation = std::numeric_limits<double>::quiet_NaN();
  double before = std::numeric_limits<double>::quiet_NaN();
  int color = 0;  // 0 to 5, as ReportSeries has them
};

/// A plot of means with deviations, one row a setting.
struct DotPlot {
  std::string title, x_label, mean_name, before_name;
  std::vector<std::string> colors;  // names of colours 0, 1, ... in the legend; empty: none
  std::vector<DotPlotRow> rows;
};

/// A whole SVG file that also stands inside a page. The axis begins at 0 where all values are positive, and is
/// logarithmic, with that word behind its label, where the largest is 20 times the smallest or more.
std::string dot_plot_svg(const DotPlot& plot);

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/dot_plot_inl.hpp"
#endif

#endif
