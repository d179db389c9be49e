// SPDX-License-Identifier: Apache-2.0
// A number where the schedule belongs.
// expect: the fifth argument of Trainer is not a schedule
#include "compile_fail/support/parts.hpp"

#if defined(KDLIB_CORRECTED)
constexpr auto size = trainer_size<Model, Batches, RightObjective, kdlib::AdamW, kdlib::WarmupCosine>();
#else
constexpr auto size = trainer_size<Model, Batches, RightObjective, kdlib::AdamW, double>();
#endif
