// SPDX-License-Identifier: Apache-2.0
// Rows at the edges of float against the reference in double: peaks that come late, columns that one model or both
// mask, mixture weights near 0 and 1, labels without probability, divergences far below the rounding of a probability.
#include "loss/row_reference.hpp"

using namespace kdlib;
using namespace kdlib_tests;

namespace {

/// The row as the engine counts it: logits more than 1e6 T below the row's anchor count as 1e6 T below it. For rows
/// whose largest entry is their anchor.
Row floored(Row z, double temperature = 1) {
  double largest = -INFINITY;
  for (const double x : z) largest = std::max(largest, x);
  for (double& x : z) x = std::max(x, largest - 1e6 * temperature);
  return z;
}

void check_metrics(const RowMetrics& m, const Row& s, const Row& t, double tolerance) {
  const Row a = log_softmax(s), b = log_softmax(t);
  double hs = 0, ht = 0;
  for (std::size_t i = 0; i < a.size(); ++i) hs -= times(std::exp(a[i]), a[i]), ht -= times(std::exp(b[i]), b[i]);
  CHECK(m.forward_kl == Approx(forward_kl(s, t).value).epsilon(tolerance).margin(tolerance));
  CHECK(m.reverse_kl == Approx(reverse_kl(s, t).value).epsilon(tolerance).margin(tolerance));
  CHECK(m.student_entropy == Approx(hs).epsilon(tolerance).margin(tolerance));
  CHECK(m.teacher_entropy == Approx(ht).epsilon(tolerance).margin(tolerance));
}

/// The sums of a block are formed in lanes of T: where one entry holds nearly all of a block's mass, a float loses up
/// to 1e-5 of what is left.
constexpr double sure_row = 2e-5;

/// A gradient is a difference of numbers of the value's size, formed in T.
template <class T, class Loss>
void check_loss(const Loss& loss, const Row& s, const Row& t, const RowReference& want) {
  const auto got = run_row<T>(loss, s, t);
  CHECK(agrees<T>(got.value(), want.value, std::abs(want.value)));
  const Row gradient = got.gradient.row(0);
  double largest = 0;
  for (const double g : want.gradient) largest = std::max(largest, std::abs(g));
  const double rounding = (std::is_same_v<T, double> ? 1e-13 : 2e-7) * std::max(1.0, std::abs(want.value));
  CHECK(max_difference(gradient.data(), want.gradient.data(), gradient.size()) < 1e-5 * largest + rounding);
}

/// Value, gradient and metrics of the divergences that read moments, and of those that do not.
template <class T>
void check_divergences(const Row& s, const Row& t) {
  const double tolerance = std::is_same_v<T, double> ? 1e-9 : sure_row;
  const auto check = [&](const auto& loss, const RowReference& want) {
    const auto got = run_rows(loss, Logits<T>({s}), Logits<T>({t}), {}, 1, true);
    check_metrics(got.result.metrics, s, t, tolerance);
    CHECK(got.value() == Approx(want.value).epsilon(1e-5));
    const Row gradient = got.gradient.row(0);
    CHECK(max_difference(gradient.data(), want.gradient.data(), gradient.size()) < tolerance);
  };
  check(ForwardKl{}, forward_kl(s, t));
  check(ReverseKl{}, reverse_kl(s, t));
  check(JensenShannon{.beta = 0.3}, jensen_shannon(s, t, 0.3));
  check(SkewForwardKl{}, skew_forward_kl(s, t, 0.1));
}

template <class T, class F>
void at_each_level(F&& f) {
  for (const CpuLevel level : {CpuLevel::portable, CpuLevel::avx2, CpuLevel::avx512}) {
    if (level > detail::best_cpu_level() || (std::is_same_v<T, double> && level != CpuLevel::portable)) continue;
    const LevelScope scope(level);
    INFO(cpu_level_name(level));
    f();
  }
}

}  // namespace

TEMPLATE_TEST_CASE("metrics and losses do not depend on where the largest entries of a row stand", "[loss]", float,
                   double) {
  // The first sweep measures a row from the largest of its first 1024 entries and begins again where a later entry lies
  // far above. Peaks on both sides of that border, in one model, in the other, in both.
  constexpr std::size_t v = 49152;
  for (const double gap : {19.0, 21.0, 25.0, 100.0})
    for (const auto& [student, teacher] :
         {std::pair<std::size_t, std::size_t>{30000, 198}, {198, 30000}, {30000, 40000}, {40000, 30000}, {198, 700}}) {
      INFO("gap " << gap << ", peaks at " << student << " and " << teacher);
      Normal random(static_cast<std::uint64_t>(gap) + student);
      Row s(v), t(v);
      for (std::size_t i = 0; i < v; ++i) s[i] = static_cast<float>(random()), t[i] = static_cast<float>(random());
      s[student] = t[teacher] = gap;
      check_divergences<TestType>(s, t);
    }
}

TEMPLATE_TEST_CASE("rows that rise from their first to their last entry are summed about their largest", "[loss]",
                   float, double, bf16) {
  Row s, t;
  for (int i = 0; i < 5000; ++i) s.push_back(0.125 * (i / 16)), t.push_back(0.25 * (i / 32) - 100);
  s = Logits<TestType>({s}).row(0), t = Logits<TestType>({t}).row(0);
  const auto got = run_rows(ReverseKl{}, Logits<TestType>({s}), Logits<TestType>({t}), {}, 1, true);
  check_row(got, 0, reverse_kl(s, t));
  check_metrics(got.result.metrics, s, t, std::is_same_v<TestType, double> ? 1e-9 : sure_row);
}

TEMPLATE_TEST_CASE("columns masked in both models leave value, gradient and metrics as they are", "[loss]", float,
                   double, bf16) {
  Normal random(7);
  for (const double fill : {double{-INFINITY}, -1e30, -1e9, -1e4})
    for (const std::size_t masked : {std::size_t{1}, std::size_t{1024}, std::size_t{1100}, std::size_t{2048}}) {
      INFO("fill " << fill << ", first " << masked);
      const Logits<TestType> plain_s({random.row(952, 2)}), plain_t({random.row(952, 2)});
      const auto with_prefix = [&](const Logits<TestType>& z) {
        Row row(masked, fill);
        for (const double x : z.row(0)) row.push_back(x);
        return Logits<TestType>({row});
      };
      const auto want = run_rows(ReverseKl{}, plain_s, plain_t, {}, 1, true);
      const auto got = run_rows(ReverseKl{}, with_prefix(plain_s), with_prefix(plain_t), {}, 1, true);
      CHECK(got.value() == Approx(want.value()).epsilon(2e-6));
      CHECK(got.result.metrics.forward_kl == Approx(want.result.metrics.forward_kl).epsilon(2e-6));
      CHECK(got.result.metrics.reverse_kl == Approx(want.result.metrics.reverse_kl).epsilon(2e-6));
      CHECK(got.result.metrics.student_entropy == Approx(want.result.metrics.student_entropy).epsilon(2e-6));
      const Row a = got.gradient.row(0), b = want.gradient.row(0);
      for (std::size_t i = 0; i < masked; ++i) REQUIRE(a[i] == 0);
      double worst = 0;
      for (std::size_t i = 0; i < b.size(); ++i) worst = std::max(worst, std::abs(a[masked + i] - b[i]));
      CHECK(worst < (std::is_same_v<TestType, bf16> ? 1e-3 : 2e-7));
    }
}

TEMPLATE_TEST_CASE("columns that one model alone masks count as 1e6 T below the row's largest entry", "[loss]", float,
                   double) {
  // 1900 entries from the 1101st on; both rows have their largest entry, 8, there, so that it is the anchor.
  Normal random(11);
  Row full(3000), other(3000);
  for (double& x : full) x = static_cast<float>(random());
  for (double& x : other) x = static_cast<float>(random());
  full[2999] = other[1100] = 40;
  full[5] = 39;
  for (const double fill : {double{-INFINITY}, -1e9, -1e4}) {
    INFO("fill " << fill);
    Row masked = other;
    for (std::size_t i = 0; i < 1100; ++i) masked[i] = fill;
    const Row counted = floored(masked);
    check_loss<TestType>(ReverseKl{}, full, masked, reverse_kl(full, counted));
    check_loss<TestType>(ForwardKl{}, masked, full, forward_kl(counted, full));
    check_loss<TestType>(JensenShannon{}, full, masked, jensen_shannon(full, counted, 0.5));
    check_loss<TestType>(JensenShannon{}, masked, full, jensen_shannon(counted, full, 0.5));
    check_loss<TestType>(SkewForwardKl{}, masked, full, skew_forward_kl(counted, full, 0.1));
    check_loss<TestType>(SkewReverseKl{}, full, masked, skew_reverse_kl(full, counted, 0.1));
    const auto got = run_rows(ReverseKl{}, Logits<TestType>({full}), Logits<TestType>({masked}), {}, 1, true);
    check_metrics(got.result.metrics, full, counted, 1e-5);
  }
}

TEST_CASE("a row without any probability is NaN, and only that row", "[loss]") {
  const Logits<float> s({Row(1500, -INFINITY), Row(1500, 1.0)}), t({Row(1500, 0.0), Row(1500, 1.0)});
  const auto got = run_rows(ReverseKl{}, s, t);
  CHECK(std::isnan(got.value(0)));
  CHECK(got.value(1) == 0);
}

TEMPLATE_TEST_CASE("skew divergences keep value and gradient for weights from 1e-8 to 1 - 1e-8", "[loss]", float,
                   double) {
  Normal random(13);
  std::vector<std::pair<Row, Row>> rows = {{{100, 0}, {0, 100}}, {{12, 0, 3}, {0, 12, -4}}, {{1e4, 0}, {0, 1e4}}};
  Row s = random.row(300, 5), t = random.row(300, 5);
  for (double& x : s) x = static_cast<float>(x);
  for (double& x : t) x = static_cast<float>(x);
  rows.emplace_back(s, t);
  for (const double lambda : {1e-8, 1e-6, 1e-3, 0.1, 0.5, 0.9, 1 - 1e-3, 1 - 1e-6, 1 - 1e-8})
    for (const auto& [a, b] : rows) {
      INFO("lambda " << lambda << " or 1 - " << 1 - lambda);
      at_each_level<TestType>([&] {
        check_loss<TestType>(SkewForwardKl{.lambda = lambda}, a, b, skew_forward_kl(a, b, lambda));
        check_loss<TestType>(SkewReverseKl{.lambda = lambda}, a, b, skew_reverse_kl(a, b, lambda));
        check_loss<TestType>(JensenShannon{.beta = lambda}, a, b, jensen_shannon(a, b, lambda));
      });
    }
}

TEMPLATE_TEST_CASE("scaled Jensen-Shannon divergences keep their digits for weights near 0 and 1", "[loss]", float,
                   double) {
  Normal random(17);
  const Row s = Logits<float>({random.row(300, 1)}).row(0), t = Logits<float>({random.row(300, 1)}).row(0);
  for (const double beta : {1e-8, 1e-4, 1 - 1e-4, 1 - 1e-8}) {
    INFO("beta " << beta);
    // The reference forms a sum of log(p / m) near 0 and loses log10(1 / beta) of its 16 digits.
    const double want = beta < 0.5 ? forward_kl(s, t).value : reverse_kl(s, t).value;
    const auto got = run_row<TestType>(JensenShannon{.beta = beta, .scaled = true}, s, t);
    CHECK(got.value() ==
          Approx(beta == 1e-8 || beta == 1 - 1e-8 ? want : jensen_shannon(s, t, beta, 1, true).value).epsilon(1e-5));
  }
}

TEMPLATE_TEST_CASE("bounded divergences stay within their bounds", "[loss]", float, double, bf16) {
  for (const double apart : {30.0, 1000.0, 2e4, 1e5, 3e6}) {
    INFO(apart << " apart");
    at_each_level<TestType>([&] {
      for (const std::size_t half : {std::size_t{1}, std::size_t{700}}) {
        Row s(2 * half, 0.0), t(2 * half, 0.0);
        for (std::size_t i = 0; i < half; ++i) s[i] = t[half + i] = apart;
        const auto js = run_rows(JensenShannon{}, Logits<TestType>({s}), Logits<TestType>({t}), {}, 1, true);
        CHECK(js.value() <= std::log(2.0));
        CHECK(js.value() == Approx(std::log(2.0)).epsilon(1e-6));
        CHECK(js.result.metrics.js <= std::log(2.0));
        const auto metric = run_rows(TotalVariation{}, Logits<TestType>({s}), Logits<TestType>({t}), {}, 1, true);
        CHECK(metric.value() <= 1);
        const auto skew = run_row<TestType>(SkewForwardKl{.lambda = 0.01}, s, t);
        CHECK(skew.value() <= -std::log(0.01));
        CHECK(skew.value() == Approx(-std::log(0.01)).epsilon(1e-6));
        CHECK(run_row<TestType>(SkewReverseKl{.lambda = 0.7}, s, t).value() == Approx(-std::log(0.7)).epsilon(1e-6));
      }
    });
  }
}

TEST_CASE("small divergences are right in float and never negative, at any vector level and temperature", "[loss]") {
  Normal random(19);
  for (const double noise : {1e-5, 1e-4, 1e-3, 1e-2, 0.1, 0.5})
    for (const std::int64_t v : {3, 1000}) {
      Row s = random.row(v, 3), t = s;
      for (double& x : t) x += noise * random();
      for (Row* z : {&s, &t})
        for (double& x : *z) x = static_cast<float>(x);
      INFO("noise " << noise << ", V = " << v);
      at_each_level<float>([&] {
        const auto near = [&](double got, double want) {
          CHECK(got >= 0);
          CHECK(std::abs(got - want) <= 1e-5 * want + 2e-7 * noise);
        };
        near(run_row<float>(ForwardKl{}, s, t).value(), forward_kl(s, t).value);
        near(run_row<float>(ReverseKl{}, s, t).value(), reverse_kl(s, t).value);
        const auto hot = [](const auto& loss) { return loss.value() / 1e4; };  // T^2
        near(hot(run_row<float>(ForwardKl{.temperature = 100}, s, t)), forward_kl(s, t, 100).value);
        near(hot(run_row<float>(ReverseKl{.temperature = 100}, s, t)), reverse_kl(s, t, 100).value);
        const double js = run_row<float>(JensenShannon{}, s, t).value();
        CHECK(js >= 0);
        CHECK(std::abs(js - jensen_shannon(s, t, 0.5).value) <= 1e-5 * js + 1e-7 * noise);
        CHECK(run_row<float>(SkewForwardKl{}, s, t).value() >= 0);
        CHECK(run_row<float>(SkewReverseKl{}, s, t).value() >= 0);
      });
    }
}

TEMPLATE_TEST_CASE("labels that a model masks have the documented log-probability", "[loss]", float, double, bf16) {
  const std::int32_t label[] = {1};
  const RowInputs rows{.labels = label};
  const Row masked = {0, -INFINITY, 1}, open = {0, 0, 1};
  const auto finite = [](const auto& got) {
    for (const double g : got.gradient.row(0)) CHECK(std::isfinite(g));
    return got.value();
  };
  CHECK(finite(run_row<TestType>(CrossEntropy{}, masked, open, rows)) == Approx(1e6).epsilon(1e-6));
  CHECK(finite(run_row<TestType>(CrossEntropy{.temperature = .01f}, {1e4, -1e4, 0}, open, rows)) ==
        Approx(100).epsilon(1e-5));
  CHECK(finite(run_row<TestType>(CrossEntropy{.temperature = .01f}, {1e4, -INFINITY, 0}, open, rows)) ==
        Approx(100).epsilon(1e-5));
  const auto at_label = run_row<TestType>(CrossEntropy{}, masked, open, rows).gradient.row(0);
  CHECK(at_label[1] == -1);  // the label is still learnt
  const PolicyGradient policy{.importance_ratio = false};
  CHECK(finite(run_row<TestType>(policy, open, masked, rows)) == Approx(1e6).epsilon(1e-5));
  CHECK(finite(run_row<TestType>(SampledKl<KlEstimator::k2>{}, open, masked, rows)) == Approx(5e11).epsilon(1e-5));
  CHECK(finite(run_row<TestType>(SampledKl<KlEstimator::k3>{}, open, masked, rows)) == Approx(1e6).epsilon(1e-5));
  // Where the student masks the label, p_t / p_s counts as e^60.
  CHECK(finite(run_row<TestType>(SampledKl<KlEstimator::k3>{}, masked, open, rows)) ==
        Approx(std::exp(60.0)).epsilon(1e-5));
  const auto metrics =
      run_rows(ForwardKl{}, Logits<TestType>({masked}), Logits<TestType>({open}), rows, 1, true).result.metrics;
  CHECK(metrics.label_log_prob == Approx(-1e6).epsilon(1e-6));
}
