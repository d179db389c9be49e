// SPDX-License-Identifier: Apache-2.0
// The fused pass on a device with each kind of target. The file links everywhere, which proves the instances of
// src/cuda.
#include "cuda/target_cases.hpp"
#include "kdlib/backend/cuda/rows.hpp"

using namespace kdlib;

TEMPLATE_TEST_CASE("head_loss on CUDA equals the CPU's for every kind of target", "[cuda]", float, bf16) {
  if (cuda_device_count() == 0) KDLIB_SKIP("head_loss on CUDA: no device answers");
  kdlib_tests::check_every_target<TestType, Cuda>();
}
