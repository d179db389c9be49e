// SPDX-License-Identifier: Apache-2.0
// Bodies of scale_plan.hpp.
#ifndef KDLIB_TOOLS_SCALE_PLAN_INL_HPP
#define KDLIB_TOOLS_SCALE_PLAN_INL_HPP

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <utility>

#include "kdlib/core/settings_error.hpp"
#include "kdlib/tools/scale_plan.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_TOOLS_FUNC ScalePlan plan_scale(const ScaleInputs& in) {
  require<SettingsError>(in.ranks >= 1 && in.teacher_ranks >= 1 && in.slices >= 1, "[plan_scale] ", in.ranks,
                         " ranks, ", in.teacher_ranks, " teacher ranks and ", in.slices,
                         " slices; each must be 1 or more");
  require<SettingsError>(in.teacher_flops > 0 && in.student_flops > 0, "[plan_scale] the rates of arithmetic are ",
                         in.teacher_flops, " and ", in.student_flops, "; both must be above 0");
  require<SettingsError>(in.link > 0 || (in.ranks == 1 && in.row_bytes == 0),
                         "[plan_scale] something goes over a link of ", in.link, " bytes a second; give --link");
  require<SettingsError>(in.latency >= 0, "[plan_scale] the latency is ", in.latency, "; it must be 0 or above");
  ScalePlan p;
  p.write = in.write_rate > 0 ? in.written / (in.write_rate * in.ranks) : 0;
  const double teachers = in.teacher_apart ? in.teacher_ranks : in.ranks;
  p.score = 2 * in.teacher_parameters * in.tokens / (in.teacher_flops * teachers);
  p.wire = in.row_bytes > 0 ? in.rows * in.row_bytes / in.link + in.latency : 0;
  p.train = (in.adapter ? 4 : 6) * in.student_parameters * in.tokens / (in.student_flops * in.ranks);
  p.reduce = in.ranks > 1 ? 2 * (in.ranks - 1) / in.ranks * 4 * in.trained / in.link + 2 * in.latency : 0;
  const double waiting =
      in.teacher_apart ? std::max({p.write, p.score, p.wire}) * (1 + 1 / in.slices) : p.write + p.score;
  p.step = waiting + p.train + p.reduce;
  const double most = std::max({p.write, p.score, p.wire, p.train, p.reduce});
  p.bottleneck = most == p.write   ? "writing"
                 : most == p.score ? "scoring"
                 : most == p.wire  ? "the wire"
                 : most == p.train ? "training"
                                   : "the reduction";
  if (p.step > 0) {
    p.teacher_idle = 1 - p.score / p.step;
    p.student_idle = in.teacher_apart ? std::max(0.0, waiting - p.write) / p.step : 0;
  }
  const double students = std::max(p.write, p.train);
  p.balanced_teachers = students > 0 ? std::max(1.0, std::ceil(p.score * teachers / students)) : 1;
  if (in.row_bytes > 0 && in.rows > 0) p.balanced_row_bytes = std::max(0.0, p.score - in.latency) * in.link / in.rows;
  const double rest = p.step - p.reduce;
  if (rest > 0) p.local_steps = std::max(1.0, std::ceil(9 * p.reduce / rest));
  return p;
}

namespace detail {
/// A word's number times the factor of the unit behind it; NaN: another form.
KDLIB_TOOLS_FUNC double number_with_unit(const std::string& word,
                                         std::initializer_list<std::pair<const char*, double>> factors) {
  std::size_t end = 0;
  double number = 0;
  try {
    number = std::stod(word, &end);
  } catch (const std::exception&) {
    return std::nan("");
  }
  for (const auto& [unit, factor] : factors)
    if (word.compare(end, word.npos, unit) == 0) return number * factor;
  return std::nan("");
}
}  // namespace detail

KDLIB_TOOLS_FUNC double latency_seconds(const std::string& word) {
  const double seconds = detail::number_with_unit(word, {{"us", 1e-6}, {"ms", 1e-3}, {"s", 1}});
  require<SettingsError>(seconds >= 0 && seconds <= 3600, "[plan_scale] --latency is '", word,
                         "'; a number with us, ms or s is needed, an hour at most, such as 30ms");
  return seconds;
}

KDLIB_TOOLS_FUNC double link_bytes(const std::string& word) {
  const double bytes = detail::number_with_unit(
      word, {{"kbit", 1e3 / 8}, {"Mbit", 1e6 / 8}, {"Gbit", 1e9 / 8}, {"MB", 1e6}, {"GB", 1e9}});
  require<SettingsError>(bytes > 0 && std::isfinite(bytes), "[plan_scale] --link is '", word,
                         "'; a number with kbit, Mbit, Gbit, MB or GB (a second) is needed, such as 100Mbit");
  return bytes;
}

KDLIB_NAMESPACE_END

#endif
