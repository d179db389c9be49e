// SPDX-License-Identifier: Apache-2.0
// The public headers read by nvcc: concepts and the shared scalar types compile for the device.
#include <cuda_runtime.h>

#include "kdlib/backend/cuda.hpp"
#include "kdlib/core/dtype.hpp"
#include "kdlib/core/rng.hpp"
#include "support/catch.hpp"

using namespace kdlib;

static_assert(HasMatmul<Cuda, float>, "concepts work in a .cu file: the standard is C++20");

namespace {
template <Scalar T>
__global__ void round_trip(const float* in, float* out, int n) {
  const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
  if (i < n) out[i] = static_cast<float>(T(in[i]));
}
}  // namespace

TEST_CASE("rounding to 16 bits on the device equals the host's", "[cuda]") {
  if (cuda_device_count() == 0) KDLIB_SKIP("CUDA rounding: no device answers");
  constexpr int n = 6;
  const float in[n] = {1.0f, 1.00390625f, 3.14159265f, 65519.0f, 1e-7f, -0.1f};
  float out[n] = {};
  auto* device = static_cast<float*>(Memory<Cuda>::allocate(2 * sizeof in));
  Memory<Cuda>::from_host(device, in, sizeof in);
  round_trip<bf16><<<1, 32>>>(device, device + n, n);
  Memory<Cuda>::to_host(out, device + n, sizeof out);
  for (int i = 0; i < n; ++i) CHECK(out[i] == static_cast<float>(bf16(in[i])));
  round_trip<f16><<<1, 32>>>(device, device + n, n);
  Memory<Cuda>::to_host(out, device + n, sizeof out);
  for (int i = 0; i < n; ++i) CHECK(out[i] == static_cast<float>(f16(in[i])));
  Memory<Cuda>::release(device, 2 * sizeof in);
}
