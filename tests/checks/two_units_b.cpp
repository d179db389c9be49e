// SPDX-License-Identifier: Apache-2.0
// The backend before the umbrella.
#include "kdlib/backend/cpu.hpp"

#include "kdlib/kdlib.hpp"

int other_unit() {
  static_assert(kdlib::HasKernels<kdlib::Cpu, float>, "the backend included before the umbrella counts");
  return kdlib::thread_count();
}
