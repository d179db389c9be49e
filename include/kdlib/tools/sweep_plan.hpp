// SPDX-License-Identifier: Apache-2.0
// A grid of runs of `distil` from one YAML file. Needs yaml-cpp; for programs only.
#ifndef KDLIB_TOOLS_SWEEP_PLAN_HPP
#define KDLIB_TOOLS_SWEEP_PLAN_HPP

#include <string>
#include <utility>
#include <vector>

#include "kdlib/tools/options.hpp"

KDLIB_NAMESPACE_BEGIN

/// One run: its place in the grid and what `distil` is told.
struct SweepRun {
  std::string name;                   // of its folder, made of the labels: "quantizer=nf4,lambda=0.5,seed=1"
  std::vector<std::string> labels;    // one an axis
  std::vector<FileSetting> settings;  // later ones replace earlier ones of the same key
};

/// Runs are the product of the axes in the order of the file, the last one fastest. The axis `seed` is what means are
/// taken over.
struct SweepPlan {
  static constexpr std::size_t max_runs = 50'000;         // of a sweep that can be run
  static constexpr std::size_t max_grid = 1'000'000'000;  // of one whose size can still be told
  static constexpr std::size_t previewed_runs = 20;       // of a grid between the two

  std::string path, out;
  std::vector<std::string> axes;
  std::size_t grid_size = 0;   // product of the axes, before `except`
  std::vector<SweepRun> runs;  // all of them; of a grid above max_runs the first ones alone

  bool too_large() const { return grid_size > max_runs; }

  std::string folder(const SweepRun& run) const;  // out/runs/<name>
  /// Position of the axis `seed`; axes.size() where there is none.
  std::size_t seed_axis() const;
};

/// Keys of the file:
///   out        folder of the sweep
///   settings   any settings of distil, for every run
///   grid       axis: a list of values of the setting of that name, or a mapping of labels to several settings
///   except     list of mappings axis: label (or list of labels); runs that fit one are left out
/// `--out` and `--resume` belong to the sweep and are refused, and so is a grid above max_grid. UsageError names file
/// and line.
SweepPlan read_sweep(const std::string& path);

/// The command line of a run, without the program.
std::vector<std::string> sweep_arguments(const SweepPlan& plan, const SweepRun& run);

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/sweep_plan_inl.hpp"
#endif

#endif
