// SPDX-License-Identifier: Apache-2.0
// Reads a sweep, a grid of runs of `distil`, from one YAML file. Needs yaml-cpp; for programs only.
#ifndef KDLIB_TOOLS_SWEEP_PLAN_HPP
#define KDLIB_TOOLS_SWEEP_PLAN_HPP

#include <string>
#include <utility>
#include <vector>

#include "kdlib/tools/options.hpp"

KDLIB_NAMESPACE_BEGIN

/// One run of a sweep: its place in the grid and the settings for `distil`.
struct SweepRun {
  std::string name;                   // name of the run's folder, made of the labels: "quantizer=nf4,lambda=0.5,seed=1"
  std::vector<std::string> labels;    // one label for each axis
  std::vector<FileSetting> settings;  // a later setting replaces an earlier one with the same key
};

/// The runs are all combinations of the values of the axes, in the order of the file; the last axis changes fastest.
/// Means are taken over the axis `seed`.
struct SweepPlan {
  static constexpr std::size_t max_runs = 50'000;         // most runs of a sweep that can be run
  static constexpr std::size_t max_grid = 1'000'000'000;  // largest grid that is accepted
  static constexpr std::size_t previewed_runs = 20;       // runs that are listed for a grid above max_runs

  std::string path, out;
  std::vector<std::string> axes;
  std::size_t grid_size = 0;   // number of combinations, before `except`
  std::vector<SweepRun> runs;  // all runs; for a grid above max_runs only the first ones

  bool too_large() const { return grid_size > max_runs; }

  std::string folder(const SweepRun& run) const;  // out/runs/<name>
  /// Returns the index of the axis `seed`, or axes.size() if there is none.
  std::size_t seed_axis() const;
};

/// Keys of the file:
///   out        folder of the sweep
///   settings   any settings of distil, for every run
///   grid       axis: a list of values of the setting of that name, or a mapping of labels to several settings
///   except     list of mappings axis: label (or list of labels); runs that fit one are left out
/// The settings out, resume and dry-run belong to the sweep and are refused. A grid above max_grid is refused, too.
/// UsageError names file and line.
SweepPlan read_sweep(const std::string& path);

/// Returns the command line of a run, without the program.
std::vector<std::string> sweep_arguments(const SweepPlan& plan, const SweepRun& run);

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/sweep_plan_inl.hpp"
#endif

#endif
