// SPDX-License-Identifier: Apache-2.0
// The body of the CUDA row kernel, run on the emulated device at small shapes against the CPU engine
// in double: every loss that reads the teacher's rows, labels or a sampled token, and sums. Losses on the teacher's
// top-k: rows_support_test.
#include "cuda/row_cases.hpp"
#include "emulated/emulated_rows.hpp"

using namespace kdlib;
using namespace kdlib_tests;

namespace {

constexpr auto emulated = [](const auto& loss, const auto& task, RowResult* results) {
  emulate_rows(loss, task, results);
};

// Below one block of 32 threads, odd, below and above one tile of vectors, many tiles.
constexpr std::int64_t sizes[] = {2, 5, 37, 128, 301};

template <class T, class Loss>
void compare(const Loss& loss, bool teacher_rows = true, bool masked_columns = true, bool sure_row = true) {
  for (const std::int64_t v : sizes)
    compare_rows<T>(
        loss, {.columns = v, .teacher_rows = teacher_rows, .masked_columns = masked_columns, .sure_row = sure_row},
        emulated);
}

}  // namespace

TEMPLATE_TEST_CASE("the CUDA row kernel's body equals the CPU engine: divergences", "[cuda]", float, bf16) {
  compare<TestType>(ForwardKl{.temperature = 2});
  compare<TestType>(ReverseKl{});
  compare<TestType>(JensenShannon{.beta = 0.3, .scaled = true});
  compare<TestType>(JensenShannon{.beta = 0.9, .temperature = 2.5f, .t_squared = false});
  compare<TestType>(TotalVariation{.temperature = 1.5f}, true, true,
                    false);  // the sign of p_s - p_t at 1 - 1 is chance in float
  compare<TestType>(SkewForwardKl{.lambda = 0.2});
  compare<TestType>(SkewReverseKl{.temperature = 3});
}

TEMPLATE_TEST_CASE("the CUDA row kernel's body equals the CPU engine: a loss that weights by the teacher's head",
                   "[cuda]", float, bf16, double) {
  compare<TestType>(AdaptiveKl{});
  compare<TestType>(AdaptiveKl{.head_mass = 0.9, .temperature = 2});
  compare<TestType>(Sum{Term{1, AdaptiveKl{}}, Term{0.2, CrossEntropy{}}});
}

TEST_CASE("the CUDA row kernel takes lower ids first among equals at the edge of the teacher's head", "[cuda]") {
  for (const double mass : {0.2, 0.5, 0.7}) {
    Row s, t;
    for (int i = 0; i < 64; ++i)
      s.push_back(std::sin(i)), t.push_back(i % 3 == 0 ? 1 : 0);  // 22 equals at the top, 42 below
    RowTask<double> task;
    task.rows = 1, task.columns = 64;
    task.student = s.data(), task.teacher = t.data();
    RowResult want, got;
    RowKernels<Cpu, double>::run(AdaptiveKl{.head_mass = mass}, task, &want);
    emulated(AdaptiveKl{.head_mass = mass}, task, &got);
    CHECK(got.value == Approx(want.value).epsilon(1e-12));
  }
}

TEMPLATE_TEST_CASE("the CUDA row kernel's body equals the CPU engine: labels and samples", "[cuda]", float, bf16) {
  compare<TestType>(CrossEntropy{.temperature = 1.5f});
  compare<TestType>(PolicyGradient{.ratio_limit = 2});
  compare<TestType>(PolicyGradient{}, false);
  compare<TestType>(BaselinePolicyGradient{.sampled = {.advantage_limit = 1}});
  compare<TestType>(SampledKl<KlEstimator::k2>{}, false);
  compare<TestType>(SampledKl<KlEstimator::k3>{});
  compare<TestType>(NegativeEntropy{.temperature = 2}, false);
  compare<TestType>(ZLoss{}, false);
  compare<TestType>(UniformCrossEntropy{}, false, false);  // not for rows with masked columns
  compare<TestType>(label_smoothing(0.1), false, false);
}

TEMPLATE_TEST_CASE("the CUDA row kernel's body equals the CPU engine: sums of one and of several temperatures",
                   "[cuda]", float, bf16) {
  compare<TestType>(Sum{Term{1, ForwardKl{}}, Term{0.5, ReverseKl{}}, Term{0.2, CrossEntropy{}}});
  compare<TestType>(
      Sum{Term{1, CrossEntropy{}}, Term{0.01, ZLoss{}}, Term{0.1, TotalVariation{}}, Term{0.2, SkewReverseKl{}}}, true,
      true, false);
  compare<TestType>(Sum{Term{0.7, JensenShannon{.temperature = 2}},
                        Term{0.3, Sum{Term{1, CrossEntropy{}}, Term{0.1, ReverseKl{.temperature = 4}}}}});
}

TEST_CASE("the CUDA row kernel's body in double equals the CPU engine to 1e-12", "[cuda]") {
  compare<double>(Sum{Term{1, ForwardKl{}}, Term{0.5, JensenShannon{.temperature = 2}}, Term{0.2, CrossEntropy{}}});
}

TEMPLATE_TEST_CASE("the CUDA row kernel takes rows of any alignment, a gradient of its own memory, and none", "[cuda]",
                   float, bf16) {
  const Sum loss{Term{1, ForwardKl{}}, Term{0.2, CrossEntropy{}}};
  for (const std::int64_t padding : {0, 1, 2, 3, 7})
    for (const std::int64_t v : {3, 64, 131, 256}) {
      compare_rows<TestType>(loss, {.columns = v, .padding = padding}, emulated);
      compare_rows<TestType>(loss, {.columns = v, .in_place = false, .padding = padding}, emulated);
    }
  compare_rows<TestType>(loss, {.columns = 131, .gradient = false}, emulated);
  compare_rows<TestType>(JensenShannon{}, {.columns = 131, .gradient = false}, emulated);
  compare_rows<TestType>(CrossEntropy{}, {.columns = 131, .gradient = false}, emulated);
}

TEST_CASE("the CUDA row kernel gives the same for blocks of every size", "[cuda]") {
  const Sum loss{Term{1, ReverseKl{}}, Term{0.2, CrossEntropy{}}};
  for (const int threads : {32, 128, 256})
    compare_rows<float>(loss, {.columns = 301}, [threads](const auto& l, const auto& task, RowResult* results) {
      emulate_rows(l, task, results, threads);
    });
}

TEST_CASE("the CUDA row kernel's body gives exactly 0 at p = q", "[cuda]") {
  Normal random(2);
  Logits<float> s({random.row(77, 3)}), g(1, 77);
  RowTask<float> task;
  task.rows = 1;
  task.columns = 77;
  task.student = task.teacher = s.values.data();
  task.gradient = g.values.data();
  RowResult result;
  emulate_rows(Sum{Term{0.3, ForwardKl{}}, Term{0.7, JensenShannon{}}, Term{0.1, ReverseKl{}}}, task, &result);
  CHECK(result.value == 0);
  for (const float x : g.values) CHECK(x == 0);
}

TEST_CASE("a row with NaN logits has loss NaN on CUDA too, and its neighbours keep theirs", "[cuda]") {
  Normal random(3);
  for (const std::size_t at : {std::size_t{0}, std::size_t{70}}) {
    Logits<float> s({random.row(77, 3), random.row(77, 3)}), t({random.row(77, 3), random.row(77, 3)}), g(2, 77);
    s.values[at] = NAN;
    RowTask<float> task;
    task.rows = 2;
    task.columns = task.student_stride = task.teacher_stride = task.gradient_stride = 77;
    task.student = s.values.data(), task.teacher = t.values.data(), task.gradient = g.values.data();
    RowResult result[2];
    emulate_rows(ForwardKl{}, task, result);
    CHECK(std::isnan(result[0].value));
    CHECK(result[1].value == Approx(forward_kl(s.row(1), t.row(1)).value).epsilon(1e-5));
  }
}
