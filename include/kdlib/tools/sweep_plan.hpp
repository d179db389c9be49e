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
  std::string path, out;
  std::vector<std::string> axes;
  std::vector<SweepRun> runs;

  std::string folder(const SweepRun& run) const;  // out/runs/<name>
  /// Position of the axis `seed`; axes.size() where there is none.
  std::size_t seed_axis() const;
};

/// Keys of the file:
///   out        folder of the sweep
///   settings   any settings of distil, for every run
///   grid       axis: a list of values of the setting of that name, or a mapping of labels to several settings
///   except     list of mappings axis: label (or list of labels); runs that fit one are left out
/// `--out` and `--resume` belong to the sweep and are refused. UsageError names file and line.
SweepPlan read_sweep(const std::string& path);

/// The command line of a run, without the program.
std::vector<std::string> sweep_arguments(const SweepPlan& plan, const SweepRun& run);

KDLIB_NAMESPACE_END

#include "kdlib/tools/sweep_plan_inl.hpp"

#endif
