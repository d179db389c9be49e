// SPDX-License-Identifier: Apache-2.0
// A step of distillation with the packaged headers, on one row of logits whose divergence is known by hand.
#include <kdlib/kdlib.hpp>

#include <kdlib/backend/cpu.hpp>

#include <cmath>
#include <cstdint>
#include <cstdio>

namespace kd = kdlib;

int main() {
  kd::Tensor<float, kd::Cpu> teacher(kd::Shape{1, 2}), student(kd::Shape{1, 2}), gradient(kd::Shape{1, 2});
  teacher.data()[0] = teacher.data()[1] = 0;                          // probabilities 1/2, 1/2
  student.data()[0] = 0, student.data()[1] = std::log(3.0f);          // 1/4, 3/4
  const double expected = (std::log(2.0) + std::log(2.0 / 3.0)) / 2;  // sum of p log(p / q)
  const std::int32_t labels[] = {0};
  const auto divergence = [&] {
    return kd::row_loss(kd::ForwardKl{}, std::as_const(student).view(),
                        kd::LogitTargets<float, kd::Cpu>{std::as_const(teacher).view()}, {.labels = labels}, 1.0,
                        gradient.view())
        .loss.sum;
  };
  const double before = divergence();
  for (int i = 0; i < 2; ++i) student.data()[i] -= 0.5f * gradient.data()[i];
  const double after = divergence();
  std::printf("kdlib %s with %s: forward KL %.6f (%.6f by hand), after a step %.6f\n", KDLIB_VERSION_STRING,
              kd::cpu_blas_name(), before, expected, after);
  return std::fabs(before - expected) < 1e-6 && after < before ? 0 : 1;
}
