// SPDX-License-Identifier: Apache-2.0
// A list of names where a selection of parameters is needed.
// expect: the fourth argument of run does not select parameters
#include "compile_fail/support/parts.hpp"
#include "kdlib/optim/param_groups.hpp"

using Right = kdlib::Trainer<Model, Batches, RightObjective, kdlib::AdamW, kdlib::ConstantRate>;
#if defined(KDLIB_CORRECTED)
static_assert(kdlib::ParameterSelection<kdlib::ParameterGroups>);
#else
void run(Right& trainer, kdlib::NoCheckpoints& store) {
  trainer.run({.steps = 1}, kdlib::NoMetrics{}, store, std::vector<std::string>{"*.mlp.*"});
}
#endif
