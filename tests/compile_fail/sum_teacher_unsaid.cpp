// SPDX-License-Identifier: Apache-2.0
// A loss of a sum that takes the teacher's fields and does not say so.
// expect: entry(row, x) of a Term's loss takes an Entry, which holds p_t and log_ratio of the teacher, but the
// unsaid: each Term of a Sum holds a row loss
#include "compile_fail/support/unsaid.hpp"

const auto loss = kdlib::Sum{kdlib::Term{1, SquaredError{}}};
