// SPDX-License-Identifier: Apache-2.0
// The CUDA row engine on a device, real or emulated, against the CPU engine in double. The file links everywhere, which
// proves the instances of src/cuda/rows_*.cu. More shapes and losses: tests/emulated/rows_*_test.cpp.
#include "kdlib/backend/cuda/rows.hpp"
#include "cuda/row_cases.hpp"

using namespace kdlib;
using namespace kdlib_tests;

namespace {

/// Large vocabularies are for a real device.
bool is_emulated() { return cuda_device_text().find("emulated") != std::string::npos; }

/// `count` elements on the device, or nullptr for none.
template <class X>
Buffer<std::remove_const_t<X>, Cuda> placed(X*& host, std::int64_t count) {
  Buffer<std::remove_const_t<X>, Cuda> there(host == nullptr ? 0 : count);
  if (host != nullptr) Memory<Cuda>::from_host(there.data(), host, static_cast<std::size_t>(count) * sizeof(X));
  host = there.data();
  return there;
}

/// Runs a task of the host on the device; the gradient is written over the student's logits.
constexpr auto on_device = [](const auto& loss, auto task, RowResult* results) {
  using T = std::remove_const_t<std::remove_pointer_t<decltype(task.gradient)>>;
  T* gradient = task.gradient;
  const std::int64_t count = task.rows * task.student_stride, support = task.rows * task.support_size;
  const auto student = placed(task.student, count), teacher = placed(task.teacher, count);
  const auto labels = placed(task.labels, task.rows), ids = placed(task.support_ids, support);
  const auto weights = placed(task.weights, task.rows), behaviour = placed(task.behaviour, task.rows),
             teacher_label = placed(task.teacher_label, task.rows);
  const auto log_probs = placed(task.support_log_probs, support), log_tail = placed(task.support_log_tail, task.rows);
  task.gradient = student.data();
  const Buffer<RowResult, Cuda> out(task.rows);
  RowKernels<Cuda, T>::run(loss, task, out.data());
  Memory<Cuda>::to_host(results, out.data(), static_cast<std::size_t>(task.rows) * sizeof(RowResult));
  Memory<Cuda>::to_host(gradient, student.data(), static_cast<std::size_t>(count) * sizeof(T));
};

}  // namespace

TEMPLATE_TEST_CASE("the CUDA row engine equals the CPU engine", "[cuda]", float, bf16) {
  if (cuda_device_count() == 0) KDLIB_SKIP("CUDA row engine: no device answers");
  std::vector<std::int64_t> sizes = {2, 37, 1000};
  if (!is_emulated()) sizes.insert(sizes.end(), {49152, 201088});
  for (const std::int64_t v : sizes) {
    const RowCase c{.columns = v};
    compare_rows<TestType>(CrossEntropy{}, c, on_device);
    compare_rows<TestType>(ForwardKl{.temperature = 2}, c, on_device);
    compare_rows<TestType>(ReverseKl{}, c, on_device);
    compare_rows<TestType>(JensenShannon{.beta = 0.3}, c, on_device);
    compare_rows<TestType>(PolicyGradient{.ratio_limit = 2}, c, on_device);
    compare_rows<TestType>(Sum{Term{1, ForwardKl{}}, Term{0.5, ReverseKl{}}, Term{0.2, CrossEntropy{.temperature = 2}}},
                           c, on_device);
    if (v > 64) compare_rows<TestType>(TopKForwardKl{}, {.columns = v, .support = 64}, on_device);
  }
}

TEST_CASE("the CUDA row engine in bf16 equals the CPU engine for every other loss", "[cuda]") {
  if (cuda_device_count() == 0) KDLIB_SKIP("CUDA row engine: no device answers");
  for (const std::int64_t v : {std::int64_t{37}, std::int64_t{is_emulated() ? 1537 : 151937}}) {
    const RowCase c{.columns = v}, unmasked{.columns = v, .masked_columns = false},
        unsure{.columns = v, .sure_row = false}, top_k{.columns = v, .support = 16};
    compare_rows<bf16>(TotalVariation{}, unsure, on_device);
    compare_rows<bf16>(SkewForwardKl{}, c, on_device);
    compare_rows<bf16>(SkewReverseKl{}, c, on_device);
    compare_rows<bf16>(BaselinePolicyGradient{}, c, on_device);
    compare_rows<bf16>(SampledKl<KlEstimator::k2>{}, c, on_device);
    compare_rows<bf16>(SampledKl<KlEstimator::k3>{}, c, on_device);
    compare_rows<bf16>(NegativeEntropy{}, c, on_device);
    compare_rows<bf16>(UniformCrossEntropy{}, unmasked, on_device);
    compare_rows<bf16>(ZLoss{}, c, on_device);
    compare_rows<bf16>(label_smoothing(0.1), unmasked, on_device);
    compare_rows<bf16>(TopKReverseKl<>{}, top_k, on_device);
    compare_rows<bf16>(TopKReverseKl<TopKMass::renormalised>{}, top_k, on_device);
    compare_rows<bf16>(Sum{Term{1, TopKForwardKl{.mass = TopKMass::raw}}, Term{0.1, CrossEntropy{}}}, top_k, on_device);
  }
}

TEST_CASE("a support of more ids than the CUDA row engine takes is refused before anything runs", "[cuda]") {
  RowTask<bf16> task;
  task.rows = 1, task.columns = 4096, task.support_size = 2000;
  REQUIRE_THROWS_WITH((RowKernels<Cuda, bf16>::launch(TopKForwardKl{}, task, nullptr, nullptr)),
                      contains("at most 1024"));
}
