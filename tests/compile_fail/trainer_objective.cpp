// SPDX-License-Identifier: Apache-2.0
// A loss where an objective belongs.
// expect: the third argument of Trainer is not an objective; write kd::Objective{teacher, loss}
#include "compile_fail/support/parts.hpp"

#if defined(KDLIB_CORRECTED)
constexpr auto size = trainer_size<Model, Batches, RightObjective>();
#else
constexpr auto size = trainer_size<Model, Batches, kdlib::ForwardKl>();
#endif
