// SPDX-License-Identifier: Apache-2.0
// The sampled-token losses: D12 by enumeration of the vocabulary, traps C1-C3, C36, C37.
#include "loss/row_reference.hpp"

using namespace kdlib;
using namespace kdlib_tests;

namespace {

/// Expected value and gradient of a sampled loss over y ~ draw, teacher and student of the example.
template <class Loss>
RowReference expectation(const Loss& loss, const Row& draw_logits, bool behaviour, double* variance = nullptr) {
  const Row draw = log_softmax(draw_logits), t = log_softmax(example_teacher());
  RowReference total;
  double second = 0;
  for (std::int32_t y = 0; y < 4; ++y) {
    const std::int32_t label[] = {y};
    const float mu[] = {static_cast<float>(draw[static_cast<std::size_t>(y)])};
    RowInputs rows{.labels = label};
    if (behaviour) rows.behaviour_log_probs = mu;
    const auto got = run_row<double>(loss, example_student(), example_teacher(), rows);
    const double p = std::exp(draw[static_cast<std::size_t>(y)]);
    add(total, p, RowReference{got.value(), got.gradient.row(0)});
    second += p * got.value() * got.value();
  }
  if (variance != nullptr) *variance = second - total.value * total.value;
  return total;
}

void near_all(const Row& got, const Row& want, double tolerance) {
  for (std::size_t i = 0; i < want.size(); ++i) CHECK(std::abs(got[i] - want[i]) < tolerance);
}

const Row reverse_gradient = {-.340336242, -.147113084, .440032880, .047416445},
          forward_gradient = {-.476509163, .039121527, .367909915, .069477722};
constexpr PolicyGradient on_policy{.importance_ratio = false};

}  // namespace

TEST_CASE("D12: the policy gradient's expectation is the reverse KL, value and gradient", "[loss]") {
  double variance = 0;
  const RowReference e = expectation(on_policy, example_student(), false, &variance);
  CHECK(e.value == Approx(.685861055921870).epsilon(1e-12));  // E[k1]
  CHECK(variance == Approx(1.217970).epsilon(1e-6));
  near_all(e.gradient, reverse_gradient, 2e-9);
}

TEST_CASE("D12: k2 as a loss has the reverse KL's gradient, k3 the FORWARD KL's", "[loss]") {
  const RowReference k2 = expectation(SampledKl<KlEstimator::k2>{}, example_student(), false);
  CHECK(k2.value == Approx(.844187758).epsilon(1e-8));
  near_all(k2.gradient, reverse_gradient, 2e-9);
  double variance = 0;
  const RowReference k3 = expectation(SampledKl<KlEstimator::k3>{}, example_student(), false, &variance);
  CHECK(k3.value == Approx(.685861056).epsilon(1e-8));
  CHECK(variance == Approx(.252654).epsilon(1e-5));
  near_all(k3.gradient, forward_gradient, 2e-9);
}

TEST_CASE("C1: the expected gradient of k1 as a loss is 0, which is why kdlib refuses it", "[loss]") {
  const Row q = log_softmax(example_student());
  Row expected(4, 0.0);  // E[grad log q(y)] from the definition; tests/compile_fail/k1_as_loss.cpp holds the refusal
  for (std::size_t y = 0; y < 4; ++y)
    for (std::size_t j = 0; j < 4; ++j) expected[j] += std::exp(q[y]) * ((y == j ? 1 : 0) - std::exp(q[j]));
  near_all(expected, {0, 0, 0, 0}, 1e-15);
  // The same through the engine: cross-entropy is -log q(y), so its mean over y ~ q has no gradient either.
  near_all(expectation(CrossEntropy{}, example_student(), false).gradient, {0, 0, 0, 0}, 1e-15);
}

namespace {
/// What a wrong program would do: differentiate through the advantage. The Dual is kept where PolicyGradient says
/// detach.
struct UndetachedAdvantage {
  static constexpr bool reads_teacher_label = true;
  Dual at_label(const LabelPoint& point) const {
    return -((Dual{point.teacher_log_prob, 0} - point.log_prob) * point.log_prob);
  }
};
struct DetachedAdvantage {
  static constexpr bool reads_teacher_label = true;
  Dual at_label(const LabelPoint& point) const {
    const Detached a = detach(Dual{point.teacher_log_prob, 0} - point.log_prob);
    return -(a * point.log_prob);
  }
};
}  // namespace

TEST_CASE("C2: an advantage that is not detached changes the gradient by log p_s(y) grad log p_s(y)", "[loss]") {
  const Row q = log_softmax(example_student());
  for (std::int32_t y = 0; y < 4; ++y) {
    const std::int32_t label[] = {y};
    const Row with =
        run_row<double>(UndetachedAdvantage{}, example_student(), example_teacher(), {.labels = label}).gradient.row(0);
    const Row without =
        run_row<double>(DetachedAdvantage{}, example_student(), example_teacher(), {.labels = label}).gradient.row(0);
    for (std::size_t j = 0; j < 4; ++j) {
      const double score = (static_cast<std::size_t>(y) == j ? 1 : 0) - std::exp(q[j]);
      CHECK(with[j] - without[j] == Approx(q[static_cast<std::size_t>(y)] * score).margin(1e-14));
    }
  }
  static_assert(!std::is_convertible_v<Dual, Detached> && !std::is_constructible_v<Detached, Dual>,
                "only detach() drops a derivative");
  static_assert(!std::is_convertible_v<Detached, Dual>, "a coefficient never becomes differentiable");
}

TEST_CASE("D12: with the ratio to the sampling policy the expectation is the same, without it it is not", "[loss]") {
  const Row mu = {1, 0, 0.5, 0.25};
  const RowReference with = expectation(PolicyGradient{}, mu, true), without = expectation(on_policy, mu, false);
  CHECK(with.value == Approx(.685861056).epsilon(1e-7));  // behaviour log-probs are float
  near_all(with.gradient, reverse_gradient, 1e-7);
  CHECK(std::abs(without.gradient[0] - reverse_gradient[0]) > 0.02);
}

TEST_CASE("a constant baseline does not change the expected policy gradient", "[loss]") {
  // log p_t shifted by a constant is an advantage with a baseline: E[c grad log q] = 0.
  RowReference shifted;
  const Row q = log_softmax(example_student()), t = log_softmax(example_teacher());
  for (std::int32_t y = 0; y < 4; ++y) {
    const std::int32_t label[] = {y};
    const float log_p[] = {static_cast<float>(t[static_cast<std::size_t>(y)] - 2.5)};
    Logits<double> s({example_student()}), gradient(1, 4);
    const auto got = row_loss(on_policy, std::as_const(s).view(), SampledTargets{log_p}, {.labels = label}, 1.0,
                              gradient.view(), {.row_values = true});
    add(shifted, std::exp(q[static_cast<std::size_t>(y)]), RowReference{got.row_values[0], gradient.row(0)});
  }
  near_all(shifted.gradient, reverse_gradient, 1e-7);
}

TEST_CASE("D12: a baseline of each row's KL keeps the expected gradient and lowers its variance", "[loss]") {
  const BaselinePolicyGradient with{on_policy};
  const auto spread = [](const auto& loss) {  // sum over the entries of the gradient's variance
    const Row q = log_softmax(example_student());
    double second = 0, first = 0;
    for (std::int32_t y = 0; y < 4; ++y) {
      const std::int32_t label[] = {y};
      for (const double g :
           run_row<double>(loss, example_student(), example_teacher(), {.labels = label}).gradient.row(0))
        second += std::exp(q[static_cast<std::size_t>(y)]) * g * g;
    }
    for (const double g : reverse_gradient) first += g * g;
    return second - first;
  };
  const RowReference e = expectation(with, example_student(), false);
  CHECK(e.value == Approx(.685861055921870).epsilon(1e-12));  // the value has no baseline in it
  near_all(e.gradient, reverse_gradient, 2e-9);
  CHECK(spread(with) < spread(on_policy));  // 0.610 against 0.634
  const Row mu = {1, 0, 0.5, 0.25};
  near_all(expectation(BaselinePolicyGradient{}, mu, true).gradient, reverse_gradient, 1e-7);
  // one draw, from the definition: -(A + KL) (1[y] - q)
  const Row q = log_softmax(example_student()), t = log_softmax(example_teacher());
  const std::int32_t label[] = {2};
  const Row g = run_row<double>(with, example_student(), example_teacher(), {.labels = label}).gradient.row(0);
  for (std::size_t j = 0; j < 4; ++j)
    CHECK(g[j] == Approx(-(t[2] - q[2] + .685861055921870) * ((j == 2 ? 1 : 0) - std::exp(q[j]))).epsilon(1e-12));
  CHECK_THROWS_AS(run_row<double>(BaselinePolicyGradient{}, example_student(), example_teacher(), {.labels = label}),
                  ConfigError);  // C37: no behaviour log-probs
}

TEST_CASE("C3 and D12: an advantage that does not depend on the token teaches nothing", "[loss]") {
  // A divergence over a support used as a detached advantage is such a constant: E[c grad log q] = 0 whatever c is.
  RowReference constant;
  const Row q = log_softmax(example_student());
  for (std::int32_t y = 0; y < 4; ++y) {
    const std::int32_t label[] = {y};
    const float log_p[] = {static_cast<float>(q[static_cast<std::size_t>(y)] - 0.75)};  // A = -0.75 for every token
    Logits<double> s({example_student()}), gradient(1, 4);
    row_loss(on_policy, std::as_const(s).view(), SampledTargets{log_p}, {.labels = label}, 1.0, gradient.view());
    add(constant, std::exp(q[static_cast<std::size_t>(y)]), RowReference{0, gradient.row(0)});
  }
  near_all(constant.gradient, {0, 0, 0, 0}, 1e-7);
}

TEST_CASE("the ratio is cut at its limit and the advantage clipped", "[loss]") {
  const std::int32_t label[] = {2};
  const float mu[] = {-3.0f};
  const RowInputs rows{.labels = label, .behaviour_log_probs = mu};
  const double log_q = log_softmax(example_student())[2], log_p = log_softmax(example_teacher())[2];
  const double ratio = std::exp(log_q + 3.0);
  REQUIRE(ratio > 2);
  check_row(run_row<double>(PolicyGradient{}, example_student(), example_teacher(), rows), 0,
            policy_gradient(example_student(), log_p, 2, ratio));
  check_row(run_row<double>(PolicyGradient{.ratio_limit = 2}, example_student(), example_teacher(), rows), 0,
            policy_gradient(example_student(), log_p, 2, 2));
  const auto clipped = run_row<double>(PolicyGradient{.ratio_limit = 2, .advantage_limit = 0.5}, example_student(),
                                       example_teacher(), rows);
  check_row(clipped, 0, policy_gradient(example_student(), log_q - 0.5, 2, 2));
}

TEST_CASE("C37: an importance ratio without behaviour log-probs is refused, not taken as 1", "[loss]") {
  const std::int32_t label[] = {2};
  CHECK_THROWS_AS(run_row<double>(PolicyGradient{}, example_student(), example_teacher(), {.labels = label}),
                  ConfigError);
  CHECK_THROWS_WITH(run_row<double>(PolicyGradient{}, example_student(), example_teacher(), {.labels = label}),
                    contains("no behaviour log-probs") && contains(".importance_ratio = false"));
}

TEST_CASE("the policy gradient mixes with losses of the whole distribution", "[loss]") {
  const std::int32_t label[] = {3};
  const auto got = run_row<double>(Sum{Term{0.5, on_policy}, Term{2, ReverseKl{}}}, example_student(),
                                   example_teacher(), {.labels = label});
  RowReference want;
  add(want, 0.5, policy_gradient(example_student(), log_softmax(example_teacher())[3], 3, 1));
  add(want, 2, reverse_kl(example_student(), example_teacher()));
  check_row(got, 0, want);
}
