// SPDX-License-Identifier: Apache-2.0
// A trainer whose program forgot the header of the gradient norm (the umbrella header has it).
// expect: the gradient norm is missing: include kdlib/optim/clip.hpp
#include "compile_fail/support/parts.hpp"

using Right = kdlib::Trainer<Model, Batches, RightObjective, kdlib::AdamW, kdlib::ConstantRate>;
#if defined(KDLIB_CORRECTED)
static_assert(sizeof(Right) > 0);
#else
void run(Right& trainer) { trainer.run({.steps = 1}); }
#endif
