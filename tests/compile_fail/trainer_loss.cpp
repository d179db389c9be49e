// SPDX-License-Identifier: Apache-2.0
// An objective whose loss is a number.
// expect: the loss of the objective is not a row loss
// unsaid: reads more of the teacher
#include "compile_fail/support/parts.hpp"

#if defined(KDLIB_CORRECTED)
constexpr auto size = trainer_size<Model, Batches, kdlib::Objective<Teacher, kdlib::CrossEntropy>>();
#else
constexpr auto size = trainer_size<Model, Batches, kdlib::Objective<Teacher, double>>();
#endif
