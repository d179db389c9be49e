// SPDX-License-Identifier: Apache-2.0
// The CUDA row engine on a device against the CPU engine. The file links everywhere, which proves the instances of src/cuda/rows.cu; the body's
// arithmetic is tested without a device in tests/loss/cuda_rows_emulation_test.cpp.
#include "kdlib/backend/cuda/rows.hpp"
#include "loss/row_reference.hpp"

using namespace kdlib;
using namespace kdlib_tests;

namespace {

template <class T>
class OnDevice {
 public:
  explicit OnDevice(const std::vector<T>& host) : buffer_(static_cast<std::int64_t>(host.size())) {
    Memory<Cuda>::from_host(buffer_.data(), host.data(), host.size() * sizeof(T));
  }
  T* data() const { return buffer_.data(); }
  std::vector<T> host() const {
    std::vector<T> out(static_cast<std::size_t>(buffer_.count()));
    Memory<Cuda>::to_host(out.data(), buffer_.data(), out.size() * sizeof(T));
    return out;
  }

 private:
  Buffer<T, Cuda> buffer_;
};

template <class T, class Loss>
void compare(const Loss& loss, std::int64_t columns) {
  Normal random(static_cast<std::uint64_t>(columns));
  constexpr std::int64_t rows = 3;
  Logits<T> s({random.row(columns, 3), random.row(columns, 3), random.row(columns, 3)}), t({random.row(columns, 3), random.row(columns, 3), random.row(columns, 3)});
  const std::vector<std::int32_t> labels = {1, 0, static_cast<std::int32_t>(columns - 1)};
  const std::vector<float> weights = {0.5f, 0.0f, 2.0f}, behaviour = {-1.5f, -2.0f, -0.5f};
  RowTask<T> task;
  task.rows = rows;
  task.columns = task.student_stride = task.teacher_stride = task.gradient_stride = columns;
  task.labels = labels.data(), task.weights = weights.data(), task.behaviour = behaviour.data();
  task.scale = 0.5;
  task.metrics = true;
  RowResult want[rows], got[rows];
  Logits<T> cpu(rows, columns);
  task.student = s.values.data(), task.teacher = t.values.data(), task.gradient = cpu.values.data();
  RowKernels<Cpu, T>::run(loss, task, want);
  const OnDevice<T> student(s.values), teacher(t.values);
  task.student = task.gradient = student.data(), task.teacher = teacher.data();
  RowKernels<Cuda, T>::run(loss, task, got);
  Logits<T> cuda(rows, columns);
  cuda.values = student.host();
  for (std::int64_t r = 0; r < rows; ++r) {
    INFO("V = " << columns << ", row " << r);
    CHECK(agrees<T>(got[r].value, want[r].value, std::max(1.0, std::abs(want[r].value))));
    CHECK(got[r].metrics.top5_overlap == want[r].metrics.top5_overlap);
    CHECK(got[r].metrics.forward_kl == Approx(want[r].metrics.forward_kl).margin(1e-5));
    const Row a = cuda.row(r), b = cpu.row(r);
    double largest = 0, worst = 0;
    for (std::size_t i = 0; i < b.size(); ++i) largest = std::max(largest, std::abs(b[i])), worst = std::max(worst, std::abs(a[i] - b[i]));
    CHECK(agrees<T>(worst, 0, largest));
  }
}

}  // namespace

TEMPLATE_TEST_CASE("the CUDA row engine equals the CPU engine", "[cuda]", float, bf16) {
  if (cuda_device_count() == 0) KDLIB_SKIP("CUDA row engine: no device answers");
  for (const std::int64_t v : {2, 37, 1000, 49152, 201088}) {
    compare<TestType>(CrossEntropy{}, v);
    compare<TestType>(ForwardKl{.temperature = 2}, v);
    compare<TestType>(ReverseKl{}, v);
    compare<TestType>(JensenShannon{.beta = 0.3}, v);
    compare<TestType>(PolicyGradient{.ratio_limit = 2}, v);
    compare<TestType>(Sum{Term{1, ForwardKl{}}, Term{0.5, ReverseKl{}}, Term{0.2, CrossEntropy{.temperature = 2}}}, v);
  }
}
