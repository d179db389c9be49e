// SPDX-License-Identifier: Apache-2.0
// The loss of examples/custom_loss.cpp on CUDA, alone and in a sum: it compiles and links for every architecture; a
// device, where one answers, gives the same numbers as the formula. (The example itself includes the CPU backend, whose
// Eigen nvcc does not read.)
#include <cmath>
#include <vector>

#include "kdlib/backend/cuda/rows.cuh"
#include "kdlib/loss/losses.hpp"
#include "support/catch.hpp"

namespace kd = kdlib;

struct Hellinger {
  static constexpr bool reads_teacher = true;
  float temperature = 1;
  bool t_squared = true;

  template <class P>
  KDLIB_INLINE kd::EntryLoss<P> entry(const kd::RowStatistics&, const kd::Entry<P>& x) const {
    const P difference = kd::sqrt(x.p_s) - kd::sqrt(x.p_t);
    const P value = P(0.5) * difference * difference;
    return {value, P(0.5) * kd::sqrt(x.p_s) * difference};
  }
};

KDLIB_NAMESPACE_BEGIN
using HellingerAndLabels = Sum<Hellinger, CrossEntropy>;
KDLIB_INSTANTIATE_LOSS(Hellinger, float);
KDLIB_INSTANTIATE_LOSS(HellingerAndLabels, float);
KDLIB_NAMESPACE_END

TEST_CASE("a loss of one's own runs on a device", "[cuda]") {
  using Run = void (*)(const kd::HellingerAndLabels&, const kd::RowTask<float>&, kd::RowResult*);
  const Run run = &kd::RowKernels<kd::Cuda, float>::run<kd::HellingerAndLabels>;  // linked in any case
  REQUIRE(run != nullptr);
  if (kd::cuda_device_count() == 0) KDLIB_SKIP("own loss on CUDA: no device answers");
  constexpr std::int64_t columns = 1000;
  std::vector<float> s, t;
  for (std::int64_t i = 0; i < columns; ++i) {
    s.push_back(3 * std::sin(0.7f * static_cast<float>(i)));
    t.push_back(3 * std::cos(0.3f * static_cast<float>(i)));
  }
  double sum_s = 0, sum_t = 0, fidelity = 0;
  for (std::size_t i = 0; i < s.size(); ++i)
    sum_s += std::exp(static_cast<double>(s[i])), sum_t += std::exp(static_cast<double>(t[i]));
  for (std::size_t i = 0; i < s.size(); ++i)
    fidelity += std::exp(0.5 * (static_cast<double>(s[i]) + static_cast<double>(t[i])));
  const double want =
      0.9 * (1 - fidelity / std::sqrt(sum_s * sum_t)) + 0.1 * (std::log(sum_s) - static_cast<double>(s[7]));
  const std::int32_t label = 7;
  const kd::Buffer<std::int32_t, kd::Cuda> labels(1);
  kd::Memory<kd::Cuda>::from_host(labels.data(), &label, sizeof label);
  float* device = static_cast<float*>(kd::Memory<kd::Cuda>::allocate(2 * sizeof(float) * columns));
  kd::Memory<kd::Cuda>::from_host(device, s.data(), sizeof(float) * columns);
  kd::Memory<kd::Cuda>::from_host(device + columns, t.data(), sizeof(float) * columns);
  kd::RowTask<float> task;
  task.rows = 1, task.columns = columns, task.student_stride = task.teacher_stride = columns;
  task.student = device, task.teacher = device + columns, task.labels = labels.data();
  kd::RowResult got;
  const kd::Buffer<kd::RowResult, kd::Cuda> results(1);
  run(kd::Sum{kd::Term{0.9, Hellinger{}}, kd::Term{0.1, kd::CrossEntropy{}}}, task, results.data());
  kd::Memory<kd::Cuda>::to_host(&got, results.data(), sizeof got);
  CHECK(std::abs(got.value - want) < 1e-5);
  kd::Memory<kd::Cuda>::release(device, 2 * sizeof(float) * columns);
}
