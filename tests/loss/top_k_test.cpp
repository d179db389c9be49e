// SPDX-License-Identifier: Apache-2.0
// Losses on the teacher's top-k: D8-D10, D16 and traps C4-C7, C13, C17.
#include <algorithm>

#include "loss/row_reference.hpp"

using namespace kdlib;
using namespace kdlib_tests;

namespace {

/// One row of targets.
template <class T>
struct Support {
  std::vector<std::int32_t> ids;
  std::vector<T> log_probs, log_tail;

  Support(const Row& teacher, std::vector<std::int32_t> chosen, double temperature = 1) : ids(std::move(chosen)) {
    const Row b = log_softmax(teacher, temperature);
    double tail = 0;
    for (std::size_t i = 0; i < b.size(); ++i)
      if (std::find(ids.begin(), ids.end(), static_cast<std::int32_t>(i)) == ids.end()) tail += std::exp(b[i]);
    for (const std::int32_t id : ids)
      log_probs.push_back(id < 0 ? static_cast<T>(0.0f) : static_cast<T>(b[static_cast<std::size_t>(id)]));
    log_tail.push_back(static_cast<T>(std::log(tail)));
  }
  TopKTargets<T, Cpu> targets(float temperature = 1) const {
    const auto k = static_cast<std::int64_t>(ids.size());
    return {{ids.data(), {1, k}}, {log_probs.data(), {1, k}}, {log_tail.data(), {1}}, temperature};
  }
};

template <class T, class Loss>
EngineResult<T> run(const Loss& loss, const Row& s, const Support<T>& support, const RowInputs& rows = {},
                    float temperature = 1) {
  const Logits<T> student({s});
  EngineResult<T> out{{}, Logits<T>(1, student.columns)};
  out.result = row_loss(loss, student.view(), support.targets(temperature), rows, 1.0, out.gradient.view(),
                        {.row_values = true});
  return out;
}

template <class Loss>
void check_differences(const Loss& loss, const Row& s, const Support<double>& support, const RowInputs& rows = {},
                       float temperature = 1) {
  const Row got = run<double>(loss, s, support, rows, temperature).gradient.row(0);
  Row numeric;
  for (std::size_t i = 0; i < s.size(); ++i) {
    Row up = s, down = s;
    up[i] += 1e-5, down[i] -= 1e-5;
    numeric.push_back((run<double>(loss, up, support, rows, temperature).value() -
                       run<double>(loss, down, support, rows, temperature).value()) /
                      2e-5);
  }
  CHECK(scaled_difference(got.data(), numeric.data(), numeric.size()) < Tolerance<double>::finite_difference);
}

constexpr TopKForwardKl tail{}, both{.mass = TopKMass::renormalised}, raw{.mass = TopKMass::raw},
    sampled{.mass = TopKMass::sampled};

}  // namespace

TEMPLATE_TEST_CASE("D8 and C34: top-2 forward KL of the example under each mass rule; the raw gradient is m p_s - p_t",
                   "[loss]", double, float) {
  const Row s = example_student();
  const Support<TestType> a(example_teacher(), {0, 1});
  const double digits = std::is_same_v<TestType, double> ? 1e-9 : 3e-7;
  CHECK(std::abs(run<TestType>(tail, s, a).value() - .647548637) < digits);
  CHECK(std::abs(run<TestType>(both, s, a).value() - .257403165) < digits);
  CHECK(std::abs(run<TestType>(raw, s, a).value() - .831240652) < digits);
  const Row gradient = run<TestType>(raw, s, a).gradient.row(0);
  const double want[] = {-.496464339, .006221002, .400810440, .089432898};
  for (std::size_t i = 0; i < 4; ++i) CHECK(std::abs(gradient[i] - want[i]) < 3e-7);
  // tail = m * renormalised + KL between the two-way splits, and never above the whole divergence
  CHECK(std::abs(run<TestType>(tail, s, a).value() - (.880797078 * .257403165 + .420828682)) < 3e-7);
  CHECK(run<TestType>(tail, s, a).value() <= .650245281575959);
  // the teacher alone renormalised, which kdlib has only as drawn weights: the value without the weights' entropy
  Support<TestType> drawn = a;
  double entropy = 0;
  for (TestType& x : drawn.log_probs) {
    x -= static_cast<TestType>(std::log(.880797078));
    entropy -= std::exp(static_cast<double>(x)) * static_cast<double>(x);
  }
  CHECK(std::abs(run<TestType>(sampled, s, drawn).value() - entropy - 1.070664852) < 5 * digits);
}

TEST_CASE("C4: the raw forward KL is negative where the student leaves its tail; the tail rule is not", "[loss]") {
  const Support<double> a(example_teacher(), {0, 1});
  CHECK(run<double>(raw, {5, 4, -3, -4}, a).value() == Approx(-.111502396).epsilon(1e-8));
  CHECK(run<double>(tail, {5, 4, -3, -4}, a).value() == Approx(.588624927).epsilon(1e-8));
}

TEMPLATE_TEST_CASE("D8: at K = V every rule is the whole forward KL", "[loss]", double, float) {
  Normal random(61);
  const Row s = random.row(9, 2), t = random.row(9, 2);
  const Support<TestType> all(t, {3, 0, 1, 2, 8, 7, 6, 5, 4});
  const RowReference want = forward_kl(s, t);
  check_row(run<TestType>(tail, s, all), 0, want);
  check_row(run<TestType>(both, s, all), 0, want);
  check_row(run<TestType>(raw, s, all), 0, want);
  check_row(run<TestType>(TopKReverseKl<>{}, s, all), 0, reverse_kl(s, t));
}

TEST_CASE("D9 and C5: top-2 reverse KL of the example; the raw one does not compile", "[loss]") {
  const Support<double> a(example_teacher(), {0, 1});
  CHECK(run<double>(TopKReverseKl<>{}, example_student(), a).value() == Approx(.674375449).epsilon(1e-8));
  CHECK(run<double>(TopKReverseKl<TopKMass::renormalised>{}, example_student(), a).value() ==
        Approx(.272873700).epsilon(1e-8));
}

TEST_CASE("D10 and C6: K = 1 renormalised is refused; tail and raw teach", "[loss]") {
  const Support<double> one(example_teacher(), {0});
  CHECK_THROWS_WITH(run<double>(both, example_student(), one), contains("always 0"));
  CHECK_THROWS_AS(run<double>(TopKReverseKl<TopKMass::renormalised>{}, example_student(), one), ConfigError);
  CHECK(run<double>(tail, example_student(), one).value() > 0.1);
  CHECK(run<double>(raw, example_student(), one).gradient.row(0)[0] < -0.1);
}

TEST_CASE("D7 for a cache: K = 1 with log-probability 0 is the label's cross-entropy", "[loss]") {
  Support<double> one(example_teacher(), {1});
  one.log_probs = {0}, one.log_tail = {-INFINITY};
  check_row(run<double>(tail, example_student(), one), 0, cross_entropy(example_student(), 1));
}

TEMPLATE_TEST_CASE("C7: tails from 1e-3 to 1e-12 keep their value and gradient", "[loss]", double, float) {
  for (const double depth : {5.0, 10.0, 15.0, 20.0, 26.0}) {
    Row s(3000, -depth - 8), t(3000, -depth - 7);  // two peaks and a flat tail of mass about e^-depth
    s[7] = 1, s[1500] = 0, t[7] = 0.5, t[1500] = 0.5;
    const Support<TestType> a(t, {1500, 7});
    const Row p = log_softmax(t), q = log_softmax(s);
    const double rest_t = 2998 * std::exp(p[0]), rest_s = 2998 * std::exp(q[0]);
    const auto got = run<TestType>(tail, s, a);
    const double want =
        std::exp(p[7]) * (p[7] - q[7]) + std::exp(p[1500]) * (p[1500] - q[1500]) + rest_t * std::log(rest_t / rest_s);
    CHECK(agrees<TestType>(got.value(), want, std::abs(want)));
    // outside: p_s (1 - r_t / r_s), relative to its own size
    const double outside = std::exp(q[0]) * (1 - rest_t / rest_s);
    INFO("depth " << depth << ": " << got.gradient.row(0)[0] << ", expected " << outside);
    CHECK(std::abs(got.gradient.row(0)[0] - outside) < 1e-5 * std::abs(outside));
  }
}

TEMPLATE_TEST_CASE("tails far below the smallest float keep their value and gradient", "[loss]", double, float, bf16) {
  // One entry of the support stands `gap` above a flat outside of 999 entries: at T = 0.1 a gap of 10.5 is a tail of
  // e^-98, at T = 0.01 one of 30 is e^-2993, which no double holds either.
  struct Case {
    float temperature;
    double student_gap, teacher_gap;
  };
  for (const Case& c : {Case{0.1f, 10.5, 10.5},
                        {0.1f, 12, 10},
                        {0.1f, 10.5, 0.5},
                        {0.1f, 30, 0.5},
                        {0.01f, 30, 30},
                        {0.01f, 32, 30},
                        {1, 90, 5}})
    for (const std::size_t peak : {std::size_t{0}, std::size_t{1100}}) {
      INFO("T = " << c.temperature << ", gaps " << c.student_gap << " and " << c.teacher_gap);
      const std::size_t v = peak + 1000;
      const double temperature = static_cast<double>(c.temperature);
      Row s(v, 0.0), t(v, 0.0);
      s[peak] = c.student_gap, t[peak] = c.teacher_gap;
      Support<TestType> a(t, {static_cast<std::int32_t>(peak)}, temperature);
      const double others = static_cast<double>(v - 1), p = log_softmax(t, temperature)[peak],
                   q = log_softmax(s, temperature)[peak];
      const double log_rest_t = log_softmax(t, temperature)[peak == 0 ? 1 : 0] + std::log(others),
                   log_rest_s = log_softmax(s, temperature)[peak == 0 ? 1 : 0] + std::log(others);
      a.log_tail[0] = static_cast<TestType>(log_rest_t);
      const auto got =
          run<TestType>(TopKForwardKl{.temperature = c.temperature, .t_squared = false}, s, a, {}, c.temperature);
      const double digits = std::is_same_v<TestType, bf16> ? 1e-2 : 1e-5;
      CHECK(got.value() == Approx(std::exp(p) * (p - q) + std::exp(log_rest_t) * (log_rest_t - log_rest_s))
                               .epsilon(digits)
                               .margin(digits));
      const double outside = (std::exp(log_rest_s) - std::exp(log_rest_t)) / others / temperature;
      const Row gradient = got.gradient.row(0);
      CHECK(gradient[peak] == Approx(-outside * others).epsilon(digits).margin(digits));
      for (std::size_t i = 0; i < v; ++i)
        if (i != peak && std::abs(gradient[i] - outside) > digits * std::abs(outside) + digits / others)
          FAIL("entry " << i << ": " << gradient[i] << ", expected " << outside);
      const auto reverse =
          run<TestType>(TopKReverseKl<>{.temperature = c.temperature, .t_squared = false}, s, a, {}, c.temperature);
      CHECK(reverse.value() == Approx(std::exp(q) * (q - p) + std::exp(log_rest_s) * (log_rest_s - log_rest_t))
                                   .epsilon(digits)
                                   .margin(digits));
    }
}

TEMPLATE_TEST_CASE("supports beside columns that are masked leave value and gradient finite", "[loss]", double, float) {
  // The student masks everything outside, an entry of the support, or the first blocks.
  const Row t(1500, 1.0);
  Row outside(1500, -INFINITY), inside(1500, 0.0), prefix(1500, -INFINITY);
  outside[3] = 1, outside[1200] = 0, inside[1200] = -INFINITY;
  for (std::size_t i = 1100; i < 1500; ++i) prefix[i] = 0.5;
  for (const Row& s : {outside, inside, prefix}) {
    const Support<TestType> a(t, {3, 1200});
    for (const double value : {run<TestType>(tail, s, a).value(), run<TestType>(TopKReverseKl<>{}, s, a).value()}) {
      CHECK(std::isfinite(value));
      CHECK(value >= 0);
    }
    for (const double g : run<TestType>(tail, s, a).gradient.row(0)) REQUIRE(std::isfinite(g));
  }
  // The tail counts as e^-1e6: 1e6 nats times the teacher's mass outside.
  CHECK(run<TestType>(tail, outside, Support<TestType>(t, {3, 1200})).value() ==
        Approx(1e6 * 1498 / 1500.0).epsilon(1e-4));
}

TEST_CASE("top-k gradients equal finite differences under every rule and in sums", "[loss]") {
  Normal random(62);
  const Row s = random.row(31, 2), t = random.row(31, 2);
  const Support<double> a(t, {4, 30, -1, 0, 17});
  check_differences(tail, s, a);
  check_differences(both, s, a);
  check_differences(raw, s, a);
  check_differences(sampled, s, a);
  check_differences(TopKReverseKl<>{}, s, a);
  check_differences(TopKReverseKl<TopKMass::renormalised>{}, s, a);
  const std::int32_t label[] = {17};
  check_differences(
      Sum{Term{0.9, TopKForwardKl{.temperature = 2}}, Term{0.1, CrossEntropy{}}, Term{0.2, NegativeEntropy{}}}, s,
      Support<double>(t, {4, 30, 17}, 2), {.labels = label}, 2);
}

TEMPLATE_TEST_CASE(
    "long rows with a support in many blocks equal the sum over all entries, a late spike in or outside the support "
    "too",
    "[loss]", double, float) {
  for (const std::size_t spike : {0u, 4500u, 3u, 4087u}) {  // 3 and 4087 are in the support
    Normal random(63);
    Row s = random.row(5000, 3);
    const Row t = random.row(5000, 3);
    if (spike > 0) s[spike] = spike == 4500 ? 45 : 12;
    std::vector<std::int32_t> ids;
    for (int k = 0; k < 64; ++k) ids.push_back(static_cast<std::int32_t>((k * 1021 + 3) % 5000));
    const Support<TestType> a(t, ids);
    const Row p = log_softmax(t), q = log_softmax(s);
    Row w(5000, 0.0);
    double value = 0, rest_t = 1, rest_s = 1;
    for (const std::int32_t id : ids) {
      const auto i = static_cast<std::size_t>(id);
      value += std::exp(p[i]) * (p[i] - q[i]);
      w[i] = -std::exp(p[i]);
      rest_t -= std::exp(p[i]), rest_s -= std::exp(q[i]);
    }
    for (std::size_t i = 0; i < 5000; ++i)
      if (std::find(ids.begin(), ids.end(), static_cast<std::int32_t>(i)) == ids.end())
        w[i] = -rest_t * std::exp(q[i]) / rest_s;
    check_row(run<TestType>(tail, s, a), 0, finish(value + rest_t * std::log(rest_t / rest_s), q, w, 1));
  }
}

TEST_CASE("D16: the expected gradient of drawn ids is the whole forward KL's; that of a raw top-k is not", "[loss]") {
  const Row t = example_teacher(), p = log_softmax(t);
  RowReference mean;
  for (std::int32_t id = 0; id < 4; ++id) {
    Support<double> one(t, {id});
    one.log_probs = {0};  // one draw, weight 1
    const auto got = run<double>(sampled, example_student(), one);
    add(mean, std::exp(p[static_cast<std::size_t>(id)]), RowReference{got.value(), got.gradient.row(0)});
  }
  const Row whole = forward_kl(example_student(), t).gradient;
  for (std::size_t i = 0; i < 4; ++i) CHECK(mean.gradient[i] == Approx(whole[i]).margin(1e-12));
  const Row cut = run<double>(raw, example_student(), Support<double>(t, {0, 1})).gradient.row(0),
            q = log_softmax(example_student());
  for (std::size_t i = 0; i < 4; ++i) {
    const double bias = (i > 1 ? std::exp(p[i]) : 0) - (1 - .880797078) * std::exp(q[i]);
    CHECK(cut[i] - whole[i] == Approx(bias).margin(1e-8));
  }
}

TEST_CASE("C17: absent entries are skipped, repeated ids add up, ids outside the vocabulary are refused", "[loss]") {
  const Row s = example_student();
  Support<double> plain(example_teacher(), {0, 1}), absent(example_teacher(), {-1, 0, -1, 1}),
      twice(example_teacher(), {0, 1, 0}), outside(example_teacher(), {0, 1});
  absent.log_tail = plain.log_tail;
  twice.log_tail = plain.log_tail;
  twice.log_probs[0] -= std::log(2.0), twice.log_probs[2] -= std::log(2.0);
  const auto want = run<double>(tail, s, plain);
  for (const auto* other : {&absent, &twice}) {
    const auto got = run<double>(tail, s, *other);
    CHECK(got.value() == Approx(want.value()).epsilon(1e-13));
    for (std::size_t i = 0; i < 4; ++i) CHECK(got.gradient.row(0)[i] == Approx(want.gradient.row(0)[i]).margin(1e-14));
  }
  outside.ids[1] = 4;
  CHECK_THROWS_WITH(run<double>(tail, s, outside), contains("top-k id 4"));
}

TEST_CASE("C13: a loss at another temperature than its targets is refused", "[loss]") {
  const Support<double> a(example_teacher(), {0, 1}, 2);
  CHECK_THROWS_WITH(run<double>(tail, example_student(), a, {}, 2.0f),
                    contains("at temperature 2") && contains("wants 1"));
  CHECK(run<double>(TopKForwardKl{.temperature = 2, .t_squared = false}, example_student(), a, {}, 2.0f).value() > 0);
}

TEMPLATE_TEST_CASE("terms beside a top-k term see the whole row, in sums of one temperature too", "[loss]", double,
                   float, bf16) {
  // The support holds most of the mass of its block, which is then summed again without it.
  Normal random(65);
  const Row s = Logits<TestType>({random.row(2000, 2)}).row(0), t = random.row(2000, 2);
  const Support<TestType> a(s, {3, 40, 700, 1500});
  const std::int32_t label[] = {40};
  Row sure = s;
  for (const std::int32_t id : a.ids) sure[static_cast<std::size_t>(id)] = 12;
  for (const Row& z : {s, sure}) {
    const double digits = std::is_same_v<TestType, double> ? 1e-12 : (std::is_same_v<TestType, bf16> ? 4e-3 : 1e-5);
    const auto sum = run<TestType>(Sum{Term{1, TopKForwardKl{}}, Term{1, CrossEntropy{}}}, z, a, {.labels = label});
    const auto k = run<TestType>(tail, z, a), ce = run<TestType>(CrossEntropy{}, z, a, {.labels = label});
    CHECK(sum.value() == Approx(k.value() + ce.value()).epsilon(1e-6));
    const Row g = sum.gradient.row(0), g_k = k.gradient.row(0), g_ce = ce.gradient.row(0);
    for (std::size_t i = 0; i < g.size(); ++i)
      if (std::abs(g[i] - g_k[i] - g_ce[i]) > digits) FAIL("entry " << i << ": " << g[i] << ", " << g_k[i] + g_ce[i]);
  }
}

TEST_CASE("the fused pass on top-k targets equals rows of logits, with masked rows and chunks of one", "[loss]") {
  Normal random(64);
  constexpr std::int64_t rows = 4, v = 50, h = 5;
  Tensor<double, Cpu> hidden({rows, h}), weight({v, h}), gradient({rows, h}), logits({rows, v}),
      logit_gradient({rows, v});
  for (std::int64_t i = 0; i < hidden.count(); ++i) hidden.data()[i] = random();
  for (std::int64_t i = 0; i < weight.count(); ++i) weight.data()[i] = random();
  std::vector<std::int32_t> ids, labels = {1, 2, 3, 4};
  std::vector<double> log_probs, log_tail;
  for (std::int64_t r = 0; r < rows; ++r) {
    const Support<double> s(random.row(v, 2), {static_cast<std::int32_t>(r), 20, 49});
    ids.insert(ids.end(), s.ids.begin(), s.ids.end());
    log_probs.insert(log_probs.end(), s.log_probs.begin(), s.log_probs.end());
    log_tail.push_back(s.log_tail[0]);
  }
  const float weights[] = {1, 0, 0.5, 2};
  const TopKTargets<double, Cpu> targets{
      {ids.data(), {rows, 3}}, {log_probs.data(), {rows, 3}}, {log_tail.data(), {rows}}};
  const auto loss = Sum{Term{0.9, TopKForwardKl{}}, Term{0.1, CrossEntropy{}}};
  const auto fused =
      head_loss(loss, HeadView<double, Cpu>{.weight = std::as_const(weight).view()}, hidden.view(), targets,
                {.labels = labels, .weights = weights}, 0.3, gradient.view(), nullptr, {.workspace_bytes = 1});
  Kernels<Cpu, double>::gemm(false, true, rows, v, h, 1, hidden.data(), h, weight.data(), h, 0, logits.data(), v);
  const auto stored =
      row_loss(loss, logits.view(), targets, {.labels = labels, .weights = weights}, 0.3, logit_gradient.view());
  CHECK(fused.loss.sum == Approx(stored.loss.sum).epsilon(1e-12));
  std::vector<double> want(rows * h);
  Kernels<Cpu, double>::gemm(false, false, rows, h, v, 1, logit_gradient.data(), v, weight.data(), h, 0, want.data(),
                             h);
  CHECK(scaled_difference(gradient.data(), want.data(), want.size()) < 1e-12);
}
