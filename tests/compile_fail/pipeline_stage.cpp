// SPDX-License-Identifier: Apache-2.0
// A trainer put into a pipeline without a stage around it.
// expect: an argument of Pipeline is not a stage (name(), run(context, sink, store))
#include "compile_fail/support/parts.hpp"
#include "kdlib/optim/param_groups.hpp"
#include "kdlib/train/stage.hpp"

struct NotAStage {
  const char* name() const { return "x"; }
  kdlib::RunSettings& settings();
};
#if defined(KDLIB_CORRECTED)
static_assert(!kdlib::Stage<NotAStage, kdlib::NoMetrics, kdlib::NoCheckpoints>);
#else
void run(NotAStage stage) { kdlib::Pipeline<NotAStage>(stage).run(kdlib::NoMetrics{}, kdlib::NoCheckpoints{}); }
#endif
