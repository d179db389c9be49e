// SPDX-License-Identifier: Apache-2.0
// Multiplies two matrices with the installed headers and checks the product.
#include <cstdio>

#include <kdlib/backend/cpu.hpp>
#include <kdlib/version.hpp>

int main() {
  const float a[] = {1, 2, 3, 4}, b[] = {5, 6, 7, 8};  // [2, 2] each
  float c[4] = {0, 0, 0, 0};
  kdlib::Kernels<kdlib::Cpu, float>::gemm(false, false, 2, 2, 2, 1.0f, a, 2, b, 2, 0.0f, c, 2);
  std::printf("kdlib %s: %g %g %g %g\n", KDLIB_VERSION_STRING, static_cast<double>(c[0]), static_cast<double>(c[1]),
              static_cast<double>(c[2]), static_cast<double>(c[3]));
  return c[0] == 19 && c[1] == 22 && c[2] == 43 && c[3] == 50 ? 0 : 1;
}
