// SPDX-License-Identifier: Apache-2.0
// A schedule where the optimizer belongs.
// expect: the fourth argument of Trainer is not an optimizer
#include "compile_fail/support/parts.hpp"

#if defined(KDLIB_CORRECTED)
constexpr auto size = trainer_size<Model, Batches, RightObjective, kdlib::AdamW>();
#else
constexpr auto size = trainer_size<Model, Batches, RightObjective, kdlib::ConstantRate>();
#endif
