// SPDX-License-Identifier: Apache-2.0
// The umbrella before the backend, and main.
#include "kdlib/kdlib.hpp"

#include "kdlib/backend/cpu.hpp"

int other_unit();  // two_units_b.cpp

int main() {
  static_assert(kdlib::HasKernels<kdlib::Cpu, float>, "the backend included after the umbrella counts");
  return other_unit() == kdlib::thread_count() ? 0 : 1;
}
