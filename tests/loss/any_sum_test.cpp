// SPDX-License-Identifier: Apache-2.0
// The sum that is known at run time against the compile-time Sum of the same terms and each loss alone: values,
// gradients, metrics, needs.
#include "kdlib/loss/any_sum.hpp"

#include "kdlib/backend/cpu.hpp"
#include "kdlib/core/rng.hpp"
#include "kdlib/loss/losses.hpp"
#include "support/catch.hpp"

namespace {
using namespace kdlib;
using Whole = AnySum<LossNeeds::vocabulary>;
static_assert(std::is_trivially_copyable_v<Whole>);
static_assert(std::is_trivially_copyable_v<AnyLoss>);
static_assert(!std::is_polymorphic_v<Whole>);
static_assert(RowLoss<Whole, LogitTargets<float, Cpu>>);
static_assert(!RowLoss<Whole, NoTargets>);
static_assert(RowLoss<AnySum<LossNeeds::labels>, NoTargets>);
static_assert(RowLoss<AnySum<LossNeeds::sampled_tokens>, SampledTargets>);
static_assert(RowLoss<AnySum<LossNeeds::top_k>, TopKTargets<float, Cpu>>);

constexpr std::int64_t rows = 3, columns = 1500;  // more than one block of the engine

/// Rows of logits with peaks, a teacher near them, labels and what drew them.
template <class T>
struct Rows {
  std::vector<T> student, teacher;
  std::vector<std::int32_t> labels{7, 1499, 800};
  std::vector<float> behaviour{-3, -6, -2.5f}, weights{1, 0.5f, 2}, sampled{-4, -5, -2};
  std::vector<std::int32_t> ids;
  std::vector<T> log_probs, log_tail;

  Rows() {
    const Rng rng(5, RngPurpose::test);
    for (std::uint32_t i = 0; i < rows * columns; ++i) {
      const double x = 6 * (rng.uniform(2 * i) - 0.5) + (i % 211 == 0 ? 6 : 0);
      student.push_back(static_cast<T>(x));
      teacher.push_back(static_cast<T>(x + 3 * (rng.uniform(2 * i + 1) - 0.5)));
    }
    for (std::int32_t r = 0; r < rows; ++r) {
      for (const std::int32_t id : {3, 400 + r, 1203}) ids.push_back(id);
      for (const double p : {0.5, 0.25, 0.125}) log_probs.push_back(static_cast<T>(std::log(p)));
      log_tail.push_back(static_cast<T>(std::log(0.125)));
    }
  }
  RowInputs inputs() const { return {.labels = labels, .weights = weights, .behaviour_log_probs = behaviour}; }
  View<const T, Cpu> view(const std::vector<T>& x) const { return {x.data(), {rows, columns}}; }
  LogitTargets<T, Cpu> targets() const { return {view(teacher)}; }
  TopKTargets<T, Cpu> top_k(float temperature = 1) const {
    return {{ids.data(), {rows, 3}}, {log_probs.data(), {rows, 3}}, {log_tail.data(), {rows}}, temperature};
  }
};

template <class T>
struct Answer {
  HeadLossResult result;
  std::vector<T> gradient;
};

template <class T, class Loss, class Targets>
Answer<T> answer(const Loss& loss, const Rows<T>& data, const Targets& targets) {
  Answer<T> out;
  out.gradient.resize(data.student.size());
  out.result = row_loss(loss, data.view(data.student), targets, data.inputs(), 0.25,
                        View<T, Cpu>(out.gradient.data(), {rows, columns}), {.metrics = true, .row_values = true});
  return out;
}

template <class T, class A, class B, class Targets>
void check_equal(const A& a, const B& b, const Targets& targets, double tolerance) {
  static const Rows<T> data;
  const Answer<T> want = answer<T>(a, data, targets), got = answer<T>(b, data, targets);
  double largest = 0, worst = 0;
  for (std::size_t i = 0; i < want.gradient.size(); ++i) {
    largest = std::max(largest, std::abs(static_cast<double>(want.gradient[i])));
    worst = std::max(worst, std::abs(static_cast<double>(want.gradient[i]) - static_cast<double>(got.gradient[i])));
  }
  CHECK(largest > 0);
  CHECK(worst <= tolerance * largest);
  for (std::size_t r = 0; r < rows; ++r)
    CHECK(std::abs(want.result.row_values[r] - got.result.row_values[r]) <=
          tolerance * std::max(1.0, std::abs(want.result.row_values[r])));
  CHECK(want.result.metrics.clamped == got.result.metrics.clamped);
  CHECK(want.result.metrics.clamp_weight == got.result.metrics.clamp_weight);
  CHECK(want.result.metrics.support_weight == got.result.metrics.support_weight);
}

/// The terms of a compile-time sum.
template <class Loss>
std::vector<AnyTerm> terms_of(const Loss& sum) {
  std::vector<AnyTerm> terms;
  sum.for_each([&](double weight, const auto& loss) { terms.push_back({weight, loss}); });
  return terms;
}
template <class T = double, class Loss>
void check_sum(const Loss& sum, double tolerance = 1e-12) {
  static const Rows<T> data;
  check_equal<T>(sum, Whole(terms_of(sum)), data.targets(), tolerance);
}
}  // namespace

TEST_CASE("a run-time sum of any one loss is that loss", "[loss]") {
  static const Rows<double> data;
  AllLosses::for_each([&]<class L>(const L&) {
    INFO(plain_type_name<L>());
    L loss;
    if constexpr (requires { loss.temperature; }) loss.temperature = 2;
    if constexpr (requires { loss.beta; }) loss.beta = 0.3;
    if constexpr (requires { loss.lambda; }) loss.lambda = 0.4;
    if constexpr (requires { loss.head_mass; }) loss.head_mass = 0.7;
    if constexpr (requires { loss.ratio_limit; }) loss.ratio_limit = 1.1f;
    const std::vector<AnyTerm> terms{{1, loss}};
    if constexpr (needs_of<L> == LossNeeds::top_k)
      check_equal<double>(loss, AnySum<LossNeeds::top_k>(terms), data.top_k(2), 1e-12);
    else check_equal<double>(loss, Whole(terms), data.targets(), 1e-12);
    if constexpr (needs_of<L> == LossNeeds::labels)
      check_equal<double>(loss, AnySum<LossNeeds::labels>(terms), NoTargets{}, 1e-12);
    if constexpr (needs_of<L> == LossNeeds::sampled_tokens)
      check_equal<double>(loss, AnySum<LossNeeds::sampled_tokens>(terms), SampledTargets{data.sampled}, 1e-12);
  });
}

TEST_CASE("a run-time sum is the compile-time sum of its terms", "[loss]") {
  check_sum(Sum{Term{0.5, ForwardKl{}}, Term{0.3, ReverseKl{}}, Term{0.2, CrossEntropy{}}});
  check_sum(Sum{Term{0.8, ReverseKl{.temperature = 2}}, Term{0.2, CrossEntropy{}}});
  check_sum(Sum{Term{0.5, ForwardKl{.temperature = 2, .t_squared = false}}, Term{0.5, ForwardKl{.temperature = 2}}});
  check_sum(Sum{Term{0.4, JensenShannon{.beta = 0.3}}, Term{0.6, JensenShannon{.beta = 0.7}}, Term{1.0, ForwardKl{}}});
  check_sum(Sum{Term{1.0, SkewForwardKl{}}, Term{-0.5, SkewReverseKl{.lambda = 0.3}}, Term{0.1, TotalVariation{}},
                Term{0.01, ZLoss{}}});
  check_sum(Sum{Term{0.7, AdaptiveKl{.head_mass = 0.3, .temperature = 3}}, Term{0.2, AdaptiveKl{}},
                Term{0.1, ReverseKl{}}, Term{0.05, NegativeEntropy{}}});
  check_sum(Sum{Term{0.9, CrossEntropy{}}, Term{0.1, UniformCrossEntropy{}}, Term{0.001, ZLoss{}}});
  check_sum(Sum{Term{1.0, PolicyGradient{.ratio_limit = 2}}, Term{0.5, BaselinePolicyGradient{}},
                Term{0.2, SampledKl<KlEstimator::k2>{}}, Term{0.3, SampledKl<KlEstimator::k3>{}},
                Term{0.01, NegativeEntropy{}}});
}

TEST_CASE("a run-time sum in float is that in double, to rounding", "[loss]") {
  const auto sum = Sum{Term{0.5, ForwardKl{}}, Term{0.3, ReverseKl{.temperature = 2}}, Term{0.2, CrossEntropy{}},
                       Term{0.4, JensenShannon{}}};
  const Rows<float> data;
  const Rows<double> exact;
  const auto got = answer<float>(Whole(terms_of(sum)), data, data.targets());
  const auto want = answer<double>(Whole(terms_of(sum)), exact, exact.targets());
  CHECK(std::abs(got.result.loss.sum - want.result.loss.sum) < 2e-6 * std::abs(want.result.loss.sum));
  double worst = 0;
  for (std::size_t i = 0; i < want.gradient.size(); ++i)
    worst = std::max(worst, std::abs(static_cast<double>(got.gradient[i]) - want.gradient[i]));
  CHECK(worst < 1e-6);
}

TEST_CASE("where student and teacher are equal the divergences of a run-time sum are exactly 0", "[loss]") {
  Rows<float> data;
  data.teacher = data.student;
  const std::vector<AnyTerm> terms{{0.5, ForwardKl{}}, {0.3, ReverseKl{.temperature = 2}}, {0.2, JensenShannon{}}};
  const auto got = answer<float>(Whole(terms), data, data.targets());
  CHECK(got.result.loss.sum == 0);
  for (const float g : got.gradient) REQUIRE(g == 0);
}

TEST_CASE("with_loss keeps plain divergences their own types and says what targets are missing", "[loss]") {
  const auto type = [](const std::vector<AnyTerm>& terms) {
    return with_loss<LogitTargets<float, Cpu>>(terms, []<class L>(const L&) { return plain_type_name<L>(); });
  };
  CHECK(type({{1, ForwardKl{.temperature = 2}}}) == "ForwardKl");
  CHECK(type({{1, ReverseKl{}}}) == "ReverseKl");
  CHECK(type({{1, JensenShannon{}}}) == "JensenShannon");
  CHECK(type({{1, JensenShannon{.beta = 0}}}) == "ForwardKl");
  CHECK(type({{1, JensenShannon{.beta = 1}}}) == "ReverseKl");
  CHECK(type({{0.5, ForwardKl{}}}) == "AnySum");
  CHECK(type({{1, SkewForwardKl{}}}) == "AnySum");
  CHECK(type({{1, ForwardKl{}}, {1, CrossEntropy{}}}) == "AnySum");
  const auto ignore = [](const auto&) {};
  CHECK_THROWS_WITH(with_loss<NoTargets>(std::vector<AnyTerm>{{1, ForwardKl{}}}, ignore),
                    contains("forward_kl reads the teacher's whole distribution: a live teacher, or a cache"));
  CHECK_THROWS_WITH((with_loss<LogitTargets<float, Cpu>>(std::vector<AnyTerm>{{1, TopKForwardKl{}}}, ignore)),
                    contains("top_k_forward_kl reads the teacher's top-k"));
  CHECK_THROWS_WITH(
      (with_loss<TopKTargets<float, Cpu>>(std::vector<AnyTerm>{{1, TopKForwardKl{}}, {1, PolicyGradient{}}}, ignore)),
      contains("one that reads the teacher's log-probability of the token"));
}

TEST_CASE("a run-time sum refuses what it cannot hold and checks the settings of its terms", "[loss]") {
  const std::vector<AnyTerm> none, many(9, AnyTerm{1, ForwardKl{}}), infinite{{INFINITY, ForwardKl{}}},
      kl{{1, ForwardKl{}}}, wrong{{1, SkewForwardKl{.lambda = 2}}, {1, ForwardKl{}}};
  CHECK_THROWS_WITH(Whole(none), contains("at least one term"));
  CHECK_THROWS_WITH(Whole(many), contains("8 terms at most"));
  CHECK_THROWS_WITH(Whole(infinite), contains("the weight of forward_kl is not finite"));
  CHECK_THROWS_WITH(AnySum<LossNeeds::labels>(kl), contains("forward_kl reads the teacher's whole distribution"));
  const Rows<double> data;
  CHECK_THROWS_WITH(answer<double>(Whole(wrong), data, data.targets()), contains("lambda is 2"));
  CHECK_THROWS_WITH(row_loss(Whole(kl), data.view(data.student), data.targets(), {}, 1.0, View<double, Cpu>{}),
                    contains("the loss reads labels and none are given"));
  std::vector<AnyTerm> zero{{0, ForwardKl{}}};
  const auto got = answer<double>(Whole(zero), data, data.targets());
  CHECK(got.result.loss.sum == 0);
  for (const double g : got.gradient) REQUIRE(g == 0);
}
