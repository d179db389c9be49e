// SPDX-License-Identifier: Apache-2.0
// The body of the CUDA row kernel, run on the host: one std::thread a CUDA thread, a barrier for __syncthreads, a shared array for shared memory.
// It is compared with the CPU engine at small shapes.
#include <barrier>
#include <thread>

#include "kdlib/backend/cuda/rows_body_inl.hpp"
#include "loss/row_reference.hpp"

using namespace kdlib;
using namespace kdlib_tests;

namespace {

constexpr int block_threads = 8;

template <class C>
struct HostBlock {
  std::int64_t index;
  std::barrier<>* sync;
  detail::BlockShared<C> memory;

  std::int64_t thread() const { return index; }
  std::int64_t size() const { return block_threads; }
  void barrier() const { sync->arrive_and_wait(); }
  detail::BlockShared<C> shared() const { return memory; }
};

template <class T, class Loss>
void emulate(const Loss& loss, const RowTask<T>& task, RowResult* results) {
  using C = accumulate_t<T>;
  for (std::int64_t r = 0; r < task.rows; ++r) {
    std::barrier<> sync(block_threads);
    detail::BlockState<C> states[block_threads];
    double numbers[block_threads];
    std::vector<std::thread> threads;
    for (std::int64_t i = 0; i < block_threads; ++i)
      threads.emplace_back([&, i] {
        HostBlock<C> block{i, &sync, {states, numbers}};
        detail::BlockRow<HostBlock<C>, T> row(block, task, r);
        row.run(loss, results[r]);
      });
    for (std::thread& t : threads) t.join();
  }
}

template <class T, class Loss>
void compare(const Loss& loss, std::int64_t columns, bool teacher_rows = true) {
  Normal random(static_cast<std::uint64_t>(columns));
  Logits<T> s({random.row(columns, 3), random.row(columns, 3), random.row(columns, 3)}), t({random.row(columns, 3), random.row(columns, 3), random.row(columns, 3)});
  if (columns > 5) s.values[3] = t.values[3] = T(-INFINITY);
  const std::vector<std::int32_t> labels = {1, 0, static_cast<std::int32_t>(columns - 1)};
  const std::vector<float> weights = {0.5f, 0.0f, 2.0f}, behaviour = {-1.5f, -2.0f, -0.5f}, teacher_label = {-1.0f, -2.0f, -0.25f};
  Logits<T> cpu(3, columns), cuda(3, columns);
  RowTask<T> task;
  task.rows = 3;
  task.columns = task.student_stride = task.teacher_stride = task.gradient_stride = columns;
  task.student = s.values.data();
  if (teacher_rows) task.teacher = t.values.data();
  else task.teacher_label = teacher_label.data();
  task.labels = labels.data(), task.weights = weights.data(), task.behaviour = behaviour.data();
  task.scale = 0.5;
  task.metrics = true;
  RowResult want[3], got[3];
  task.gradient = cpu.values.data();
  RowKernels<Cpu, T>::run(loss, task, want);
  std::copy(s.values.begin(), s.values.end(), cuda.values.begin());  // in place, as on the device
  task.student = task.gradient = cuda.values.data();
  emulate(loss, task, got);
  for (std::size_t r = 0; r < 3; ++r) {
    INFO("V = " << columns << ", row " << r);
    CHECK(agrees<T>(got[r].value, want[r].value, std::max(1.0, std::abs(want[r].value))));
    CHECK(got[r].metrics.weight == want[r].metrics.weight);
    CHECK(got[r].metrics.student_entropy == Approx(want[r].metrics.student_entropy).margin(1e-6));
    CHECK(got[r].metrics.reverse_kl == Approx(want[r].metrics.reverse_kl).margin(1e-6));
    CHECK(got[r].metrics.forward_kl == Approx(want[r].metrics.forward_kl).margin(1e-6));
    CHECK(got[r].metrics.top1_agreement == want[r].metrics.top1_agreement);
    CHECK(got[r].metrics.top5_overlap == want[r].metrics.top5_overlap);
    CHECK(got[r].metrics.top5_contains == want[r].metrics.top5_contains);
    CHECK(got[r].metrics.label_log_prob == Approx(want[r].metrics.label_log_prob).margin(1e-6));
    CHECK(got[r].metrics.label_top1 == want[r].metrics.label_top1);
    double largest = 0;
    for (const double g : cpu.row(static_cast<std::int64_t>(r))) largest = std::max(largest, std::abs(g));
    for (std::int64_t i = 0; i < columns; ++i) {
      const auto k = static_cast<std::size_t>(static_cast<std::int64_t>(r) * columns + i);
      if (!agrees<T>(static_cast<double>(cuda.values[k]), static_cast<double>(cpu.values[k]), largest)) {
        CHECK(static_cast<double>(cuda.values[k]) == static_cast<double>(cpu.values[k]));
      }
    }
  }
}

}  // namespace

TEMPLATE_TEST_CASE("the CUDA row kernel's body equals the CPU engine: divergences", "[loss]", double, float, bf16) {
  for (const std::int64_t v : {2, 5, 37, 300}) {
    compare<TestType>(ForwardKl{.temperature = 2}, v);
    compare<TestType>(ReverseKl{}, v);
    compare<TestType>(JensenShannon{.beta = 0.3, .scaled = true}, v);
  }
}

TEMPLATE_TEST_CASE("the CUDA row kernel's body equals the CPU engine: labels, samples and sums", "[loss]", double, float) {
  for (const std::int64_t v : {2, 37, 300}) {
    compare<TestType>(CrossEntropy{.temperature = 1.5f}, v);
    compare<TestType>(PolicyGradient{.ratio_limit = 2}, v);
    compare<TestType>(PolicyGradient{}, v, false);
    compare<TestType>(SampledKl<KlEstimator::k3>{}, v);
    compare<TestType>(Sum{Term{1, CrossEntropy{}}, Term{0.01, ZLoss{}}, Term{0.1, TotalVariation{}}, Term{0.2, SkewReverseKl{}}}, v);
    if (v == 2) compare<TestType>(label_smoothing(0.1), v);  // the larger rows have a masked column
    compare<TestType>(Sum{Term{1, ForwardKl{}}, Term{0.5, ReverseKl{}}, Term{0.2, CrossEntropy{}}}, v);
    compare<TestType>(Sum{Term{0.7, JensenShannon{.temperature = 2}}, Term{0.3, Sum{Term{1, CrossEntropy{}}, Term{0.1, ReverseKl{}}}}}, v);
  }
}

TEST_CASE("the CUDA row kernel's body gives exactly 0 at p = q", "[loss]") {
  Normal random(2);
  Logits<float> s({random.row(77, 3)}), g(1, 77);
  RowTask<float> task;
  task.rows = 1;
  task.columns = 77;
  task.student = task.teacher = s.values.data();
  task.gradient = g.values.data();
  RowResult result;
  emulate(Sum{Term{0.3, ForwardKl{}}, Term{0.7, JensenShannon{}}, Term{0.1, ReverseKl{}}}, task, &result);
  CHECK(result.value == 0);
  for (const float x : g.values) CHECK(x == 0);
}
