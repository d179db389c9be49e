// SPDX-License-Identifier: Apache-2.0
// The specification's expected numbers D1-D7, D13 and traps C7-C12, C18, C22-C24 on rows of logits.
#include "loss/row_reference.hpp"

using namespace kdlib;
using namespace kdlib_tests;

TEMPLATE_TEST_CASE("D2 values of the example", "[loss]", double, float) {
  const Row s = example_student(), t = example_teacher();
  const auto value = [&](const auto& loss) { return run_row<TestType>(loss, s, t).value(); };
  CHECK(agrees<TestType>(value(ForwardKl{}), 0.650245281575959, 1));
  CHECK(agrees<TestType>(value(ReverseKl{}), 0.685861055921870, 1));
  CHECK(agrees<TestType>(value(JensenShannon{.beta = 0.5}), 0.153307115529217, 1));
  CHECK(agrees<TestType>(value(JensenShannon{.beta = 0.1}), 0.057007568251069, 1));
  CHECK(agrees<TestType>(value(JensenShannon{.beta = 0.9}), 0.059183669843646, 1));
  const auto metrics = run_rows(ForwardKl{}, Logits<TestType>({s}), Logits<TestType>({t}), {}, 1, true).result.metrics;
  CHECK(agrees<TestType>(metrics.teacher_entropy, 0.947536963975426, 1));
  CHECK(agrees<TestType>(metrics.forward_kl + metrics.teacher_entropy, 1.597782245551385, 1));  // CE(p, q) = H(p) + FKL
}

TEMPLATE_TEST_CASE("D5 gradients of the example sum to 0", "[loss]", double, float) {
  const Row s = example_student(), t = example_teacher();
  const auto gradient = [&](const auto& loss) { return run_row<TestType>(loss, s, t).gradient.row(0); };
  const auto check = [](const Row& got, const Row& want) {
    double sum = 0;
    for (std::size_t i = 0; i < want.size(); ++i) {
      CHECK(std::abs(got[i] - want[i]) < (std::is_same_v<TestType, double> ? 2e-9 : 2e-7));  // nine digits are given
      sum += got[i];
    }
    CHECK(std::abs(sum) < (std::is_same_v<TestType, double> ? 1e-15 : 1e-7));
  };
  check(gradient(ForwardKl{}), {-.476509163, .039121527, .367909915, .069477722});
  check(gradient(ReverseKl{}), {-.340336242, -.147113084, .440032880, .047416445});
  check(gradient(JensenShannon{.beta = 0.5}), {-.086667459, -.010600787, .083640676, .013627570});
}

TEMPLATE_TEST_CASE("D1 and C23: p = q gives exactly 0, value and gradient", "[loss]", double, float, bf16) {
  Normal random(11);
  for (const std::int64_t v : {2, 7, 16, 1000, 1024, 5003}) {
    const Logits<TestType> z({random.row(v, 4), random.row(v, 4)});
    const auto zero = [&](const auto& loss) {
      const auto got = run_rows(loss, z, z);
      CHECK(got.result.loss.sum == 0);
      for (const TestType g : got.gradient.values) REQUIRE(static_cast<double>(g) == 0);
    };
    zero(ForwardKl{});
    zero(ReverseKl{.temperature = 2});
    zero(JensenShannon{});
    zero(JensenShannon{.beta = 0.1, .scaled = true});
    zero(JensenShannon{.beta = 1});
    zero(Sum{Term{0.3, ForwardKl{}}, Term{0.7, JensenShannon{.beta = 0.3}}, Term{0.1, ReverseKl{}}});
    zero(Sum{Term{0.3, ForwardKl{.temperature = 3}}, Term{0.7, ReverseKl{}}});
  }
}

TEST_CASE(
    "D3 and C10: JSD / beta tends to the forward KL, JSD / (1 - beta) to the reverse KL; the ends are the whole "
    "divergences",
    "[loss]") {
  const Row s = example_student(), t = example_teacher();
  const auto jsd = [&](double beta, bool scaled) {
    return run_row<double>(JensenShannon{.beta = beta, .scaled = scaled}, s, t).value();
  };
  const double betas[] = {.1, .01, .001, 1e-4};
  const double forward[] = {.570076, .641770, .649392, .650160}, reverse[] = {.591837, .675655, .684831, .685758};
  for (int i = 0; i < 4; ++i) {
    const double b = betas[i];
    CHECK(std::abs(jsd(b, false) / b - forward[i]) < 6e-7);  // six digits are given
    CHECK(std::abs(jsd(1 - b, false) / b - reverse[i]) < 6e-7);
    CHECK(jsd(b, true) == Approx(jsd(b, false) / (b * (1 - b))).epsilon(1e-10));
    CHECK(run_row<float>(JensenShannon{.beta = b, .scaled = true}, s, t).value() == Approx(jsd(b, true)).epsilon(1e-5));
    CHECK(run_row<float>(JensenShannon{.beta = 1 - b, .scaled = true}, s, t).value() ==
          Approx(jsd(1 - b, true)).epsilon(1e-5));
  }
  CHECK(jsd(0, false) == Approx(0.650245281575959).epsilon(1e-12));
  CHECK(jsd(1, false) == Approx(0.685861055921870).epsilon(1e-12));
  CHECK(jsd(1e-4f, false) < 1e-4);                         // the limit is 0: the special case jumps
  CHECK(std::abs(jsd(1e-6, true) - jsd(0, true)) < 1e-5);  // the scaled form does not
  CHECK(std::abs(jsd(1 - 1e-6, true) - jsd(1, true)) < 1e-5);
}

TEST_CASE("D4 and C9: beta weights the teacher; JSD is symmetric and bounded by the entropy of beta", "[loss]") {
  Normal random(5);
  for (int i = 0; i < 20; ++i) {
    const Row a = random.row(33, 3), b = random.row(33, 3);
    CHECK(run_row<double>(JensenShannon{.beta = 0.25}, a, b).value() ==
          Approx(run_row<double>(JensenShannon{.beta = 0.75}, b, a).value()).epsilon(1e-12));
  }
  // Disjoint supports reach the bound ln 2 and H(.1).
  const Row a = {0, 0, -2000, -2000}, b = {-2000, -2000, 0, 0};
  CHECK(run_row<double>(JensenShannon{}, a, b).value() == Approx(0.693147180559945).epsilon(1e-12));
  CHECK(run_row<double>(JensenShannon{.beta = 0.1}, a, b).value() == Approx(0.325082973).epsilon(1e-8));
  CHECK(run_row<double>(JensenShannon{.beta = 0.9}, a, b).value() == Approx(0.325082973).epsilon(1e-8));
  // Which side: with beta = .9 the mixture is nearly the teacher, so KL(student || m) is nearly the reverse KL.
  const double near_reverse =
      run_row<double>(JensenShannon{.beta = 0.999}, example_student(), example_teacher()).value() / (1 - 0.999);
  CHECK(near_reverse == Approx(0.684831).epsilon(1e-3));
}

TEMPLATE_TEST_CASE("D6, C11 and C12: loss and gradient carry the same T^2, and it is a setting of the loss alone",
                   "[loss]", double, float) {
  const Row s = example_student(), t = example_teacher();
  const double temperatures[] = {1, 2, 4, 16, 64}, scaled[] = {.650245, .710586, .701293, .670833, .660092};
  for (int i = 0; i < 5; ++i) {
    const float temperature = static_cast<float>(temperatures[i]);
    const auto on = run_row<TestType>(ForwardKl{.temperature = temperature}, s, t);
    const auto off = run_row<TestType>(ForwardKl{.temperature = temperature, .t_squared = false}, s, t);
    const double square = temperatures[i] * temperatures[i];
    CHECK(std::abs(on.value() - scaled[i]) < (std::is_same_v<TestType, double> ? 6e-7 : 1e-6 + 2e-7 * square));
    CHECK(on.value() == Approx(square * off.value()).epsilon(1e-6));
    for (std::size_t j = 0; j < 4; ++j) CHECK(std::abs(on.gradient.row(0)[j] - square * off.gradient.row(0)[j]) < 3e-7);
  }
  // the limit, half the variance of the difference of the logits
  if constexpr (std::is_same_v<TestType, double>)
    CHECK(std::abs(run_row<double>(ForwardKl{.temperature = 32768}, s, t).value() - .65625) < 1e-4);
  const Row at2 = run_row<TestType>(ForwardKl{.temperature = 2}, s, t).gradient.row(0);
  const double want[] = {-.485619484, -.006954045, .365053823, .127519705};
  for (std::size_t j = 0; j < 4; ++j)
    CHECK(std::abs(at2[j] - want[j]) < (std::is_same_v<TestType, double> ? 6e-10 : 2e-7));
}

TEMPLATE_TEST_CASE("D7: a teacher sure of the label makes the forward KL the cross-entropy", "[loss]", double, float) {
  Normal random(3);
  const Row s = random.row(50, 3);
  Row t(50, -INFINITY);
  t[17] = 0;
  const std::int32_t label[] = {17};
  const auto kl = run_row<TestType>(ForwardKl{}, s, t);
  const auto ce = run_row<TestType>(CrossEntropy{}, s, t, {.labels = label});
  CHECK(agrees<TestType>(kl.value(), ce.value(), std::abs(ce.value())));
  for (std::size_t i = 0; i < 50; ++i)
    CHECK(std::abs(kl.gradient.row(0)[i] - ce.gradient.row(0)[i]) <
          (std::is_same_v<TestType, double> ? 1e-15 : 1.2e-7));
  // weight 0 on the divergence is the plain step, bit for bit
  const auto off = run_row<TestType>(Sum{Term{0, ForwardKl{}}, Term{1, CrossEntropy{}}}, s, Row(random.row(50, 2)),
                                     {.labels = label});
  CHECK(off.value() == ce.value());
  CHECK(off.gradient.values == ce.gradient.values);
}

TEST_CASE("C8: forward KL is reported without the teacher's entropy", "[loss]") {
  const Row t = example_teacher();
  CHECK(run_row<double>(ForwardKl{}, t, t).value() == 0);
}

TEMPLATE_TEST_CASE("D13 and C18: extreme and masked logits stay finite", "[loss]", double, float, bf16) {
  const double inf = INFINITY;
  const std::vector<std::pair<Row, Row>> cases = {
      {{1e4, -1e4, 0, 3}, {-1e4, 1e4, 0, 3}},
      {{0, -120, -115, 1}, {1, -118, -120, 0}},
      {{0.5, -inf, 1, -inf, 2}, {1, -inf, 0, -inf, 1.5}},  // masked on both sides
      {{-300, -300.5, -301, -299}, {1e4, 1e4 - 1, 1e4 - 2, 1e4 + 8}},
  };
  const auto finite = [](const auto& got) {
    CHECK(std::isfinite(got.value()));
    CHECK(got.value() >= 0);
    double sum = 0, magnitude = 0;
    for (const double g : got.gradient.row(0)) {
      CHECK(std::isfinite(g));
      sum += g;
      magnitude += std::abs(g);
    }
    // A softmax loss's gradient sums to 0 but for the rounding of its entries and of the terms of the value.
    const double entry = std::is_same_v<TestType, bf16> ? 1.0 / 256 : 1e-6;
    CHECK(std::abs(sum) <= entry * magnitude + 1e-6 * (1 + got.value()));
  };
  const std::int32_t label[] = {2};
  for (const auto& [s, t] : cases) {
    finite(run_row<TestType>(ForwardKl{}, s, t));
    finite(run_row<TestType>(ReverseKl{}, s, t));
    finite(run_row<TestType>(JensenShannon{}, s, t));
    finite(run_row<TestType>(JensenShannon{.beta = 0.1, .scaled = true}, s, t));
    finite(run_row<TestType>(CrossEntropy{}, s, t, {.labels = label}));
  }
  const auto masked =
      run_row<TestType>(Sum{Term{1, ForwardKl{}}, Term{1, JensenShannon{}}}, cases[2].first, cases[2].second);
  CHECK(static_cast<double>(masked.gradient.values[1]) == 0);
  CHECK(static_cast<double>(masked.gradient.values[3]) == 0);
  // A column masked on one side alone: what would be infinite counts as 1e6 nats below the row's largest.
  finite(run_row<TestType>(ForwardKl{}, {0, -inf, 1}, {0, 1, 1}));
  CHECK(run_row<TestType>(ForwardKl{}, {0, -inf, 1}, {0, 1, 1}).value() > 1e5);
  CHECK(run_row<TestType>(ReverseKl{}, {0, 1, 1}, {0, -inf, 1}).value() > 1e5);
}

TEST_CASE("JSD of both log-probabilities below -110 is finite and right", "[loss]") {
  Row s(600, -130.0), t(600, -128.0);
  s[0] = 0, t[0] = 0, s[1] = -125;
  check_row(run_row<float>(JensenShannon{}, s, t), 0, jensen_shannon(s, t, 0.5));
  check_row(run_row<double>(JensenShannon{}, s, t), 0, jensen_shannon(s, t, 0.5));
}

TEST_CASE("C22: log-probabilities of bf16 logits are formed in fp32: -17.3 stays -17.3, where bf16 would say -17.25",
          "[loss]") {
  // bf16 logits that are exact: 0 and -17.25 (a multiple of 1/8), with 40 entries at -3.5: the log-sum-exp is no bf16
  // number.
  Row s(42, -3.5);
  s[0] = 0, s[1] = -17.25;
  const double want = -log_softmax(s)[1];
  REQUIRE(std::abs(want - static_cast<double>(static_cast<float>(bf16(want)))) >
          0.01);  // storing it in bf16 would be seen
  const std::int32_t label[] = {1};
  const auto got = run_rows(CrossEntropy{}, Logits<bf16>({s}), Logits<bf16>({s}), {.labels = label}, 1, true);
  CHECK(got.value() == Approx(want).epsilon(1e-6));
  CHECK(got.result.metrics.label_log_prob == Approx(-want).epsilon(1e-6));
}

TEMPLATE_TEST_CASE(
    "C27: no entry's term is clipped: the gradient keeps its sign and size where one entry carries all of the "
    "divergence",
    "[loss]", double, float) {
  // log-ratio -50 at an entry of mass nearly 1: a clip of each entry's term would cut value and gradient there.
  const Row s = {-50, 0, 0}, t = {0, -20, -20};
  const auto kl = run_row<TestType>(ForwardKl{}, s, t);
  CHECK(kl.value() == Approx(50 + std::log(2.0)).epsilon(1e-6));
  CHECK(kl.gradient.row(0)[0] == Approx(-1).epsilon(1e-6));
  CHECK(kl.gradient.row(0)[1] == Approx(0.5).epsilon(1e-6));
  check_row(run_row<TestType>(ReverseKl{}, {-50, 0, -1}, t), 0, reverse_kl({-50, 0, -1}, t));
  check_row(run_row<TestType>(JensenShannon{.beta = 0.9}, s, t), 0, jensen_shannon(s, t, 0.9));
}

TEST_CASE("C24: probabilities are never clamped: log p = -120 stays -120", "[loss]") {
  const std::int32_t label[] = {1};
  CHECK(run_row<float>(CrossEntropy{}, {0, -120}, {0, 0}, {.labels = label}).value() == Approx(120).epsilon(1e-6));
  CHECK(run_row<float>(ForwardKl{}, {0, -120}, {-120, 0}).value() == Approx(120).epsilon(1e-6));
}

TEST_CASE("NaN in a row stays visible in that row alone", "[loss]") {
  for (const CpuLevel level : {CpuLevel::portable, CpuLevel::avx2, CpuLevel::avx512}) {
    if (level > detail::best_cpu_level()) continue;
    const LevelScope scope(level);
    Normal random(9);
    for (const std::size_t at : {std::size_t{0}, std::size_t{37}, std::size_t{1999}}) {
      Logits<float> s({random.row(2000, 2), random.row(2000, 2)}), t({random.row(2000, 2), random.row(2000, 2)});
      s.values[at] = NAN;
      for (int side = 0; side < 2; ++side) {
        const auto got = side == 0 ? run_rows(ForwardKl{}, s, t)
                                   : run_rows(Sum{Term{1, ReverseKl{}}, Term{1, JensenShannon{}}}, t, s);
        INFO(cpu_level_name(level) << ", entry " << at << ", side " << side);
        CHECK(std::isnan(got.value(0)));
        CHECK(std::isfinite(got.value(1)));
        CHECK(std::isfinite(got.gradient.row(1)[5]));
      }
    }
  }
}
