// SPDX-License-Identifier: Apache-2.0
// Random shapes, temperatures, weights, masks and compositions against a plain double-precision reference, at every
// vector level.
#include "loss/row_reference.hpp"

using namespace kdlib;
using namespace kdlib_tests;

namespace {

/// One random case: N rows over V entries.
struct Case {
  std::vector<Row> student, teacher;
  std::vector<std::int32_t> labels;
  std::vector<float> weights;
  std::int64_t columns;

  Case(Normal& random, std::int64_t rows, std::int64_t v, double offset) : columns(v) {
    for (std::int64_t r = 0; r < rows; ++r) {
      Row s = random.row(v, 3), t = s;
      const double noise = std::pow(10.0, -3 * random.uniform());
      for (double& x : t) x += noise * random();
      s[static_cast<std::size_t>(random.below(v))] += 8;
      for (double& x : s)
        x = static_cast<float>(x + offset);  // numbers that float holds exactly: both precisions see the same input
      for (double& x : t) x = static_cast<float>(x);
      student.push_back(s), teacher.push_back(t);
      labels.push_back(static_cast<std::int32_t>(random.below(v)));
      weights.push_back(random.uniform() < 0.25 ? 0.0f : static_cast<float>(0.25 + random.uniform()));
    }
  }
  RowInputs inputs() const { return {.labels = labels, .weights = weights}; }
};

template <class T>
Logits<T> matrix(const std::vector<Row>& rows, std::int64_t columns) {
  return rows.empty() ? Logits<T>(0, columns) : Logits<T>(rows);
}

template <class T, class Loss, class Reference>
void check_case(const Case& c, const Loss& loss, Reference&& reference) {
  const auto got = run_rows(loss, matrix<T>(c.student, c.columns), matrix<T>(c.teacher, c.columns), c.inputs(), 0.5);
  double sum = 0, weight = 0;
  for (std::size_t r = 0; r < c.student.size(); ++r) {
    const double w = static_cast<double>(c.weights[r]);
    INFO("V = " << c.columns);
    if (w == 0) {
      CHECK(got.value(static_cast<std::int64_t>(r)) == 0);
      for (const double g : got.gradient.row(static_cast<std::int64_t>(r))) REQUIRE(g == 0);
      continue;
    }
    const RowReference want = reference(c.student[r], c.teacher[r], c.labels[r]);
    check_row(got, static_cast<std::int64_t>(r), want, 0.5 * w);
    sum += w * want.value, weight += w;
  }
  CHECK(got.result.loss.weight == Approx(weight));
  CHECK(agrees<T>(got.result.loss.sum, sum, std::max(1.0, std::abs(sum))));
}

template <class T>
void check_all(const Case& c, double temperature, double beta, double weight) {
  const float t = static_cast<float>(temperature);
  const double square = temperature * temperature;
  check_case<T>(c, CrossEntropy{.temperature = t, .t_squared = false},
                [&](const Row& s, const Row&, std::int32_t y) { return cross_entropy(s, y, temperature); });
  check_case<T>(c, ForwardKl{.temperature = t, .t_squared = false},
                [&](const Row& s, const Row& q, std::int32_t) { return forward_kl(s, q, temperature); });
  check_case<T>(c, ReverseKl{.temperature = t, .t_squared = false},
                [&](const Row& s, const Row& q, std::int32_t) { return reverse_kl(s, q, temperature); });
  check_case<T>(c, JensenShannon{.beta = beta, .temperature = t, .t_squared = false},
                [&](const Row& s, const Row& q, std::int32_t) { return jensen_shannon(s, q, beta, temperature); });
  check_case<T>(c,
                Sum{Term{weight, ForwardKl{.temperature = t}},
                    Term{1, Sum{Term{0.5, JensenShannon{.beta = beta, .temperature = t}},
                                Term{0.2, CrossEntropy{.temperature = t}}}}},
                [&](const Row& s, const Row& q, std::int32_t y) {
                  RowReference total;
                  add(total, weight * square, forward_kl(s, q, temperature));
                  add(total, 0.5 * square, jensen_shannon(s, q, beta, temperature));
                  add(total, 0.2 * square, cross_entropy(s, y, temperature));
                  return total;
                });
  check_case<T>(c,
                Sum{Term{weight, ReverseKl{.temperature = t}}, Term{0.2, CrossEntropy{}},
                    Term{0.1, JensenShannon{.beta = beta, .temperature = t}}},
                [&](const Row& s, const Row& q, std::int32_t y) {
                  RowReference total;
                  add(total, weight * square, reverse_kl(s, q, temperature));
                  add(total, 0.2, cross_entropy(s, y));
                  add(total, 0.1 * square, jensen_shannon(s, q, beta, temperature));
                  return total;
                });
}

void check_level(CpuLevel level) {
  const LevelScope scope(level);
  Normal random(77);
  const std::int64_t sizes[] = {2, 3, 15, 16, 17, 31, 64, 97, 1000, 1023, 1024, 1025, 2047, 3000, 5121};
  int index = 0;
  for (const std::int64_t v : sizes) {
    const double temperature = index % 3 == 0 ? 1 : 0.5 + 3.5 * random.uniform();
    const Case c(random, index % 4, v, index % 5 == 0 ? 100 : 0);  // N = 0 ... 3
    const float rounded = static_cast<float>(temperature);
    check_all<float>(c, static_cast<double>(rounded), 0.05 + 0.9 * random.uniform(), 2 * random.uniform());
    if (level == CpuLevel::portable)
      check_all<double>(c, static_cast<double>(rounded), 0.05 + 0.9 * random.uniform(), 2 * random.uniform());
    ++index;
  }
}

}  // namespace

TEST_CASE("random rows equal the reference: portable", "[loss]") { check_level(CpuLevel::portable); }
TEST_CASE("random rows equal the reference: AVX2", "[loss]") {
  if (detail::best_cpu_level() < CpuLevel::avx2)
    KDLIB_SKIP("this CPU has no AVX2: the AVX2 bodies of the row engine did not run");
  check_level(CpuLevel::avx2);
}
TEST_CASE("random rows equal the reference: AVX-512", "[loss]") {
  if (detail::best_cpu_level() < CpuLevel::avx512)
    KDLIB_SKIP("this CPU has no AVX-512: the AVX-512 bodies of the row engine did not run");
  check_level(CpuLevel::avx512);
}

TEST_CASE("real vocabularies equal the reference", "[loss]") {
  Normal random(78);
  for (const std::int64_t v : {49152, 151936, 201088}) {
    const Case c(random, 1, v, 0);
    Case weighted = c;
    weighted.weights.assign(1, 1.0f);
    check_case<float>(weighted, ForwardKl{},
                      [&](const Row& s, const Row& q, std::int32_t) { return forward_kl(s, q); });
    check_case<float>(weighted, Sum{Term{1, ReverseKl{}}, Term{0.5, CrossEntropy{}}},
                      [&](const Row& s, const Row& q, std::int32_t y) {
                        RowReference total;
                        add(total, 1, reverse_kl(s, q));
                        add(total, 0.5, cross_entropy(s, y));
                        return total;
                      });
    check_case<float>(weighted, JensenShannon{.beta = 0.3},
                      [&](const Row& s, const Row& q, std::int32_t) { return jensen_shannon(s, q, 0.3); });
  }
}

TEST_CASE("bf16 logits equal the reference on the rounded inputs", "[loss]") {
  Normal random(79);
  Case c(random, 3, 2500, 0);
  for (auto* side : {&c.student, &c.teacher})
    for (Row& row : *side)
      for (double& x : row) x = static_cast<double>(static_cast<float>(bf16(x)));
  check_case<bf16>(c, ForwardKl{}, [&](const Row& s, const Row& q, std::int32_t) { return forward_kl(s, q); });
  check_case<bf16>(c, ReverseKl{}, [&](const Row& s, const Row& q, std::int32_t) { return reverse_kl(s, q); });
  check_case<bf16>(c, JensenShannon{},
                   [&](const Row& s, const Row& q, std::int32_t) { return jensen_shannon(s, q, 0.5); });
  check_case<bf16>(c, CrossEntropy{}, [&](const Row& s, const Row&, std::int32_t y) { return cross_entropy(s, y); });
}

TEST_CASE(
    "C28: results repeat bit for bit and do not depend on the thread count; the gradient may overwrite the logits",
    "[loss]") {
  Normal random(80);
  const Case c(random, 7, 3333, 0);
  const auto loss =
      Sum{Term{1, ForwardKl{}}, Term{0.5, JensenShannon{.beta = 0.2}}, Term{0.1, CrossEntropy{.temperature = 2}}};
  const int before = thread_count();
  set_thread_count(1);
  const auto one =
      run_rows(loss, matrix<float>(c.student, c.columns), matrix<float>(c.teacher, c.columns), c.inputs(), 1, true);
  for (const int threads : {1, 2, 3, 5}) {
    set_thread_count(threads);
    const auto again =
        run_rows(loss, matrix<float>(c.student, c.columns), matrix<float>(c.teacher, c.columns), c.inputs(), 1, true);
    CHECK(again.gradient.values == one.gradient.values);
    CHECK(again.result.row_values == one.result.row_values);
    CHECK(again.result.loss.sum == one.result.loss.sum);
    CHECK(again.result.metrics.reverse_kl == one.result.metrics.reverse_kl);
    Logits<float> place = matrix<float>(c.student, c.columns);
    const Logits<float> teacher = matrix<float>(c.teacher, c.columns);
    const View<float, Cpu> out = place.view();
    row_loss(loss, View<const float, Cpu>(out), LogitTargets<float, Cpu>{teacher.view()}, c.inputs(), 1.0, out);
    CHECK(place.values == one.gradient.values);
  }
  set_thread_count(before);
}
