// SPDX-License-Identifier: Apache-2.0
// Rows at the edges of float in the CUDA row kernel, run on the emulated device, against the reference in double.
#include "emulated/emulated_rows.hpp"
#include "loss/row_reference.hpp"

using namespace kdlib;
using namespace kdlib_tests;

namespace {

struct Emulated {
  RowResult result;
  Row gradient;
};

template <class T, class Loss>
Emulated emulated(const Loss& loss, const Row& s, const Row& t, std::int32_t label = 0) {
  const Logits<T> student({s}), teacher({t});
  Logits<T> gradient(1, student.columns);
  RowTask<T> task;
  task.rows = 1, task.columns = student.columns;
  task.student = student.values.data(), task.teacher = teacher.values.data();
  task.gradient = gradient.values.data();
  task.labels = &label;
  task.metrics = task.jensen_shannon = true;
  Emulated out;
  emulate_rows(loss, task, &out.result);
  out.gradient = gradient.row(0);
  return out;
}

template <class T, class Loss>
void check(const Loss& loss, const Row& s, const Row& t, const RowReference& want, double relative = 1e-5) {
  const Emulated got = emulated<T>(loss, s, t);
  CHECK(got.result.value == Approx(want.value).epsilon(relative).margin(1e-9));
  double largest = 0;
  for (const double g : want.gradient) largest = std::max(largest, std::abs(g));
  CHECK(max_difference(got.gradient.data(), want.gradient.data(), want.gradient.size()) < relative * largest + 4e-6);
  CHECK(got.result.metrics.forward_kl == Approx(forward_kl(s, t).value).epsilon(relative));
  CHECK(got.result.metrics.reverse_kl == Approx(reverse_kl(s, t).value).epsilon(relative));
  CHECK(got.result.metrics.js == Approx(jensen_shannon(s, t, 0.5).value).epsilon(relative));
}

}  // namespace

TEMPLATE_TEST_CASE("on CUDA metrics and losses do not depend on where the largest entries of a row stand", "[cuda]",
                   float, double) {
  constexpr std::size_t v = 1500;
  for (const double gap : {19.0, 25.0, 100.0})
    for (const auto& [student, teacher] : {std::pair<std::size_t, std::size_t>{1400, 19}, {19, 1400}, {1400, 900}}) {
      INFO("gap " << gap << ", peaks at " << student << " and " << teacher);
      Row s(v, 0.0), t(v, 0.0);
      s[student] = t[teacher] = gap;
      check<TestType>(ForwardKl{}, s, t, forward_kl(s, t));
      check<TestType>(ReverseKl{}, s, t, reverse_kl(s, t));
      check<TestType>(JensenShannon{.beta = 0.3}, s, t, jensen_shannon(s, t, 0.3));
    }
}

TEMPLATE_TEST_CASE("on CUDA columns that one model or both mask count as documented", "[cuda]", float, double) {
  Normal random(5);
  Row full(1500), other(1500);
  for (double& x : full) x = static_cast<float>(random());
  for (double& x : other) x = static_cast<float>(random());
  full[1499] = other[1200] = 40;
  full[5] = 39;
  for (const double fill : {double{-INFINITY}, -1e9, -1e4})
    for (const std::size_t masked : {std::size_t{3}, std::size_t{1100}}) {
      INFO("fill " << fill << ", first " << masked);
      Row cut = other, both = full, counted = other;
      for (std::size_t i = 0; i < masked; ++i) cut[i] = both[i] = fill, counted[i] = std::max(fill, 40 - 1e6);
      check<TestType>(ForwardKl{}, cut, both, forward_kl(cut, both));
      check<TestType>(ReverseKl{}, both, cut, reverse_kl(both, cut));
      const Emulated got = emulated<TestType>(ReverseKl{}, full, cut);
      const RowReference want = reverse_kl(full, counted);
      if (masked < 6) continue;  // the teacher masks the student's entry 5
      CHECK(got.result.value == Approx(want.value).epsilon(2e-5));
      double largest = 0;
      for (const double g : want.gradient) largest = std::max(largest, std::abs(g));
      CHECK(max_difference(got.gradient.data(), want.gradient.data(), want.gradient.size()) < 3e-5 * largest);
    }
}

TEMPLATE_TEST_CASE("on CUDA mixtures keep value and gradient for weights from 1e-8 to 1 - 1e-8", "[cuda]", float,
                   double) {
  for (const double lambda : {1e-8, 1e-3, 0.5, 1 - 1e-3, 1 - 1e-8})
    for (const auto& [s, t] : {std::pair<Row, Row>{{100, 0}, {0, 100}}, {{12, 0, 3}, {0, 12, -4}}}) {
      INFO("lambda " << lambda << " or 1 - " << 1 - lambda);
      check<TestType>(SkewForwardKl{.lambda = lambda}, s, t, skew_forward_kl(s, t, lambda));
      check<TestType>(SkewReverseKl{.lambda = lambda}, s, t, skew_reverse_kl(s, t, lambda));
      check<TestType>(JensenShannon{.beta = lambda}, s, t, jensen_shannon(s, t, lambda));
    }
}

TEMPLATE_TEST_CASE("on CUDA bounded divergences stay within their bounds and small ones are not negative", "[cuda]",
                   float, double, bf16) {
  for (const double apart : {30.0, 1000.0, 2e4, 1e5}) {
    const Emulated js = emulated<TestType>(JensenShannon{}, {apart, 0}, {0, apart});
    CHECK(js.result.value <= std::log(2.0));
    CHECK(js.result.value == Approx(std::log(2.0)).epsilon(1e-6));
    CHECK(js.result.metrics.js <= std::log(2.0));
    CHECK(emulated<TestType>(SkewForwardKl{}, {apart, 0}, {0, apart}).result.value <= -std::log(0.1));
  }
  Normal random(6);
  for (const double noise : {1e-4, 1e-3, 1e-2}) {
    Row s = random.row(200, 3), t = s;
    for (double& x : t) x += noise * random();
    const Row a = Logits<TestType>({s}).row(0), b = Logits<TestType>({t}).row(0);
    const double forward = emulated<TestType>(ForwardKl{}, a, b).result.value,
                 reverse = emulated<TestType>(ReverseKl{}, a, b).result.value;
    CHECK(forward >= 0);
    CHECK(reverse >= 0);
    CHECK(std::abs(forward - forward_kl(a, b).value) <= 1e-5 * forward + 4e-7 * noise);
    CHECK(std::abs(reverse - reverse_kl(a, b).value) <= 1e-5 * reverse + 4e-7 * noise);
  }
}

TEMPLATE_TEST_CASE("on CUDA labels that a model masks have the documented log-probability", "[cuda]", float, double) {
  const Row masked = {0, -INFINITY, 1}, open = {0, 0, 1};
  CHECK(emulated<TestType>(CrossEntropy{}, masked, open, 1).result.value == Approx(1e6).epsilon(1e-6));
  CHECK(emulated<TestType>(CrossEntropy{}, masked, open, 1).gradient[1] == -1);
  CHECK(emulated<TestType>(CrossEntropy{.temperature = .01f}, {1e4, -1e4, 0}, open, 1).result.value ==
        Approx(100).epsilon(1e-5));
  CHECK(emulated<TestType>(ForwardKl{}, masked, open, 1).result.metrics.label_log_prob == Approx(-1e6).epsilon(1e-6));
  const Emulated policy = emulated<TestType>(PolicyGradient{.importance_ratio = false}, open, masked, 1);
  CHECK(policy.result.value == Approx(1e6).epsilon(1e-5));
  for (const double g : policy.gradient) CHECK(std::isfinite(g));
}

TEMPLATE_TEST_CASE("on CUDA tails far below the smallest float keep their value and gradient", "[cuda]", float,
                   double) {
  struct Case {
    float temperature;
    double student_gap, teacher_gap;
  };
  for (const Case& c : {Case{0.1f, 10.5, 10.5}, {0.1f, 12, 10}, {0.1f, 10.5, 0.5}, {0.01f, 32, 30}, {1, 90, 5}})
    for (const std::int32_t peak : {0, 290}) {
      INFO("T = " << c.temperature << ", gaps " << c.student_gap << " and " << c.teacher_gap << ", peak " << peak);
      const auto at = static_cast<std::size_t>(peak), other = std::size_t{1};
      const double temperature = static_cast<double>(c.temperature);
      Row s(300, 0.0), t(300, 0.0);
      s[at] = c.student_gap, t[at] = c.teacher_gap;
      const Row p = log_softmax(t, temperature), q = log_softmax(s, temperature);
      const double rest_t = p[other] + std::log(299.0), rest_s = q[other] + std::log(299.0);
      const Logits<TestType> student({s});
      Logits<TestType> gradient(1, 300);
      const TestType log_prob = static_cast<TestType>(p[at]), log_tail = static_cast<TestType>(rest_t);
      RowTask<TestType> task;
      task.rows = 1, task.columns = 300;
      task.student = student.values.data(), task.gradient = gradient.values.data();
      task.support_ids = &peak, task.support_log_probs = &log_prob, task.support_log_tail = &log_tail;
      task.support_size = 1;
      RowResult result;
      emulate_rows(TopKForwardKl{.temperature = c.temperature, .t_squared = false}, task, &result);
      CHECK(
          result.value ==
          Approx(std::exp(p[at]) * (p[at] - q[at]) + std::exp(rest_t) * (rest_t - rest_s)).epsilon(1e-5).margin(1e-5));
      const double outside = (std::exp(rest_s) - std::exp(rest_t)) / 299 / temperature;
      const Row g = gradient.row(0);
      CHECK(g[other] == Approx(outside).epsilon(1e-5).margin(1e-7));
      CHECK(g[at] == Approx(-299 * outside).epsilon(1e-5).margin(1e-5));
    }
}
