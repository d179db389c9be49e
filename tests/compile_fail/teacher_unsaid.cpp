// SPDX-License-Identifier: Apache-2.0
// A loss that takes the teacher's fields says so: without reads_teacher they would be 0.
// expect: entry(row, x) takes an Entry, which holds p_t and log_ratio of the teacher, but the loss does not say
// unsaid: this is no row loss
#include "compile_fail/support/unsaid.hpp"
#include "kdlib/backend/cpu.hpp"

void use(kdlib::View<const double, kdlib::Cpu> z, kdlib::View<double, kdlib::Cpu> gradient) {
  kdlib::row_loss(SquaredError{}, z, kdlib::LogitTargets<double, kdlib::Cpu>{z}, {}, 1.0, gradient);
}
