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

TEST_CASE("the gradient of a head in bf16 is refused on CUDA", "[cuda]") {
  if (cuda_device_count() == 0) KDLIB_SKIP("head_loss on CUDA: no device answers");
  const kdlib_tests::Placed<bf16, Cuda> hidden({1, 2}), gradient({0, 0});
  const std::int32_t labels[] = {1};
  Parameter<bf16, Cuda> head;
  head.value = Tensor<bf16, Cuda>::zeros({3, 2});
  CHECK_THROWS_WITH(head_loss(CrossEntropy{}, HeadView<bf16, Cuda>{.weight = std::as_const(head.value).view()},
                              View<const bf16, Cuda>{hidden.data(), {1, 2}}, NoTargets{}, {.labels = labels}, 1,
                              View<bf16, Cuda>{gradient.data(), {1, 2}}, &head),
                    Catch::Matchers::Contains("the gradient of a head of 16 bits is not built for cuda"));
}
