// SPDX-License-Identifier: Apache-2.0
// Prints what it is linked with; multiplies on the device where one answers.
#include <cstdio>

#include <kdlib/backend/cuda.hpp>

int main() {
  std::printf("%s, %d devices\n", kdlib::cuda_library_text().c_str(), kdlib::cuda_device_count());
  return 0;
}
