// SPDX-License-Identifier: Apache-2.0
// A lone loss that takes the teacher's fields and does not say so, in a trainer.
// expect: entry(row, x) of the objective's loss takes an Entry, which holds p_t and log_ratio of the teacher, but the
// expect: `static constexpr bool reads_teacher = true`; say so, or take a StudentEntry
// unsaid: the loss of the objective is not a row loss
// unsaid: reads more of the teacher than its targets tell
#include "compile_fail/support/parts.hpp"
#include "compile_fail/support/unsaid.hpp"

constexpr auto size = trainer_size<Model, Batches, kdlib::Objective<Teacher, SquaredError>>();
