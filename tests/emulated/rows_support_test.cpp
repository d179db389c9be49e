// SPDX-License-Identifier: Apache-2.0
// Losses on the teacher's top-k in the CUDA row kernel, run on the emulated device, against the CPU engine in double.
#include "cuda/row_cases.hpp"
#include "emulated/emulated_rows.hpp"

using namespace kdlib;
using namespace kdlib_tests;

namespace {

constexpr auto emulated = [](const auto& loss, const auto& task, RowResult* results) {
  emulate_rows(loss, task, results);
};

/// Supports smaller than a warp, larger than a block, with ids of -1 and ids that come twice; rows below and above a
/// tile of vectors.
template <class T, class Loss>
void compare(const Loss& loss, double temperature = 1) {
  for (const auto& [v, k] : {std::pair<std::int64_t, std::int64_t>{5, 3}, {37, 6}, {128, 16}, {301, 40}, {1030, 64}})
    compare_rows<T>(loss, {.columns = v, .support = k, .support_temperature = temperature}, emulated);
}

}  // namespace

TEMPLATE_TEST_CASE("the CUDA row kernel's body equals the CPU engine: top-k forward KL under each mass rule", "[cuda]",
                   float, bf16) {
  compare<TestType>(TopKForwardKl{});
  compare<TestType>(TopKForwardKl{.temperature = 2}, 2);
  compare<TestType>(TopKForwardKl{.mass = TopKMass::renormalised});
  compare<TestType>(TopKForwardKl{.mass = TopKMass::raw});
  compare<TestType>(TopKForwardKl{.mass = TopKMass::sampled});
}

TEMPLATE_TEST_CASE("the CUDA row kernel's body equals the CPU engine: top-k reverse KL under each mass rule", "[cuda]",
                   float, bf16) {
  compare<TestType>(TopKReverseKl<>{});
  compare<TestType>(TopKReverseKl<TopKMass::renormalised>{.temperature = 1.5f}, 1.5);
}

TEMPLATE_TEST_CASE("the CUDA row kernel's body equals the CPU engine: sums with top-k terms", "[cuda]", float, bf16) {
  compare<TestType>(
      Sum{Term{0.9, TopKForwardKl{.temperature = 2}}, Term{0.1, CrossEntropy{}}, Term{0.05, NegativeEntropy{}}}, 2);
  compare<TestType>(Sum{Term{0.5, TopKForwardKl{}}, Term{0.5, TopKReverseKl<>{}}, Term{0.1, CrossEntropy{}}});
}

TEST_CASE("the CUDA row kernel's top-k in double equals the CPU engine to 1e-12", "[cuda]") {
  compare<double>(Sum{Term{0.5, TopKForwardKl{}}, Term{0.1, CrossEntropy{}}});
}

TEST_CASE("a support of the whole vocabulary, of absent ids alone and of one id on CUDA", "[cuda]") {
  Normal random(9);
  const Row s = random.row(9, 2), t = random.row(9, 2), b = log_softmax(t);
  const auto run = [&](const auto& loss, const std::vector<std::int32_t>& ids, double log_tail) {
    Logits<double> student({s}), cpu(1, 9), cuda(1, 9);
    std::vector<double> log_probs;
    for (const std::int32_t id : ids) log_probs.push_back(id < 0 ? 0 : b[static_cast<std::size_t>(id)]);
    RowTask<double> task;
    task.rows = 1;
    task.columns = 9;
    task.student = student.values.data();
    task.support_ids = ids.data(), task.support_log_probs = log_probs.data(), task.support_log_tail = &log_tail;
    task.support_size = static_cast<std::int64_t>(ids.size());
    RowResult want, got;
    task.gradient = cpu.values.data();
    RowKernels<Cpu, double>::run(loss, task, &want);
    task.gradient = cuda.values.data();
    emulate_rows(loss, task, &got);
    CHECK(got.value == Approx(want.value).margin(1e-12));
    for (std::size_t i = 0; i < 9; ++i) CHECK(cuda.values[i] == Approx(cpu.values[i]).margin(1e-12));
    return got.value;
  };
  CHECK(run(TopKForwardKl{}, {3, 0, 1, 2, 8, 7, 6, 5, 4}, -INFINITY) == Approx(forward_kl(s, t).value));
  run(TopKForwardKl{}, {-1, -1}, 0.0);
  run(TopKForwardKl{}, {4}, std::log1p(-std::exp(b[4])));
  run(TopKReverseKl<TopKMass::renormalised>{}, {4, -1, 7, 4}, -1.0);
}

TEST_CASE("C7 on CUDA: tails from 1e-3 to 1e-12 keep their gradient in float", "[cuda]") {
  for (const double depth : {5.0, 15.0, 26.0}) {
    Row s(3000, -depth - 8), t(3000, -depth - 7);  // two peaks and a flat tail of mass about e^-depth
    s[7] = 1, s[1500] = 0, t[7] = 0.5, t[1500] = 0.5;
    const Row p = log_softmax(t), q = log_softmax(s);
    const double rest_t = 2998 * std::exp(p[0]), rest_s = 2998 * std::exp(q[0]);
    const std::int32_t ids[] = {1500, 7};
    const float log_probs[] = {static_cast<float>(p[1500]), static_cast<float>(p[7])},
                log_tail[] = {static_cast<float>(std::log(rest_t))};
    Logits<float> student({s});
    RowTask<float> task;
    task.rows = 1;
    task.columns = 3000;
    task.student = task.gradient = student.values.data();
    task.gradient = student.values.data();
    task.support_ids = ids, task.support_log_probs = log_probs, task.support_log_tail = log_tail, task.support_size = 2;
    RowResult result;
    emulate_rows(TopKForwardKl{}, task, &result);
    const double outside = std::exp(q[0]) * (1 - rest_t / rest_s);
    INFO("depth " << depth << ": " << student.values[0] << ", expected " << outside);
    CHECK(std::abs(static_cast<double>(student.values[0]) - outside) < 1e-5 * std::abs(outside));
  }
}
