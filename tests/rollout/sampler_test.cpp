// SPDX-License-Identifier: Apache-2.0
// The sampler draws what it says it draws: frequencies, truncation rules, ties, log-probabilities, and its pairing with
// losses.
#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <type_traits>
#include <vector>

#include "kdlib/loss/losses.hpp"
#include "kdlib/rollout/sampler.hpp"
#include "support/catch.hpp"
#include "support/tolerance.hpp"

using namespace kdlib;
using kdlib_tests::Tolerance;

namespace {

template <class T>
SampledToken draw(const Sampler& s, const std::vector<T>& logits, double uniform) {
  SamplerWorkspace w;
  return sample_token(s, std::span<const T>(logits), uniform, w);
}

template <class T>
std::vector<double> distribution(const Sampler& s, const std::vector<T>& logits) {
  return sampling_distribution(s, std::span<const T>(logits));
}

/// Logits whose softmax is the given probabilities, plus a constant that no result may depend on.
template <class T>
std::vector<T> logits_of(const std::vector<double>& probabilities) {
  std::vector<T> out;
  for (const double p : probabilities) out.push_back(static_cast<T>(std::log(p) + 3.0));
  return out;
}

template <class T>
std::vector<T> random_logits(std::int64_t count, double spread, std::uint32_t row = 0) {
  const Rng rng(11, RngPurpose::test, 0, row);
  std::vector<T> out(static_cast<std::size_t>(count));
  for (std::int64_t i = 0; i < count; ++i) {  // roughly normal: the sum of four uniforms
    double sum = 0;
    for (int k = 0; k < 4; ++k) sum += rng.uniform(static_cast<std::uint32_t>(4 * i + k));
    out[static_cast<std::size_t>(i)] = static_cast<T>(spread * (sum - 2.0) * 1.7320508);
  }
  return out;
}

/// The definition, by a full sort in double: what the cutoff search must agree with.
std::vector<double> sorted_reference(const Sampler& s, const std::vector<double>& logits) {
  const auto count = logits.size();
  std::vector<double> p(count);
  const double largest = *std::max_element(logits.begin(), logits.end());
  for (std::size_t i = 0; i < count; ++i) p[i] = std::exp((logits[i] - largest) / s.temperature.value());
  std::vector<std::size_t> order(count);
  std::iota(order.begin(), order.end(), std::size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::size_t a, std::size_t b) { return logits[a] > logits[b]; });
  if (s.top_k > 0 && static_cast<std::size_t>(s.top_k) < count) {
    const double least = logits[order[static_cast<std::size_t>(s.top_k - 1)]];
    for (std::size_t i = 0; i < count; ++i)
      if (logits[i] < least) p[i] = 0;
  }
  const auto normalise = [&] {
    const double total = std::accumulate(p.begin(), p.end(), 0.0);
    for (double& x : p) x /= total;
  };
  normalise();
  if (s.top_p < 1) {
    double before = 0;
    for (const std::size_t i : order) {
      const double own = p[i];
      if (before >= s.top_p) p[i] = 0;
      before += own;
    }
    normalise();
  }
  if (s.min_p > 0) {
    const double most = *std::max_element(p.begin(), p.end());
    for (double& x : p)
      if (x < s.min_p * most) x = 0;
    normalise();
  }
  return p;
}

}  // namespace

TEST_CASE("the sampling temperature does not convert to a number, so it cannot become a loss temperature (C12)",
          "[rollout][C12]") {
  static_assert(std::is_convertible_v<float, SampleTemperature>);
  static_assert(!std::is_convertible_v<SampleTemperature, float>);
  static_assert(!std::is_convertible_v<SampleTemperature, double>);
  const Sampler s{.temperature = 0.7f, .max_new_tokens = 512};
  REQUIRE(s.temperature.value() == Approx(0.7));
  REQUIRE(s.max_new_tokens == 512);
}

TEMPLATE_TEST_CASE("drawn tokens have the frequencies of the softmax by a chi-square test", "[rollout]", float,
                   double) {
  const std::vector<double> p = {0.4, 0.05, 0.2, 0.01, 0.3, 0.04};
  const auto logits = logits_of<TestType>(p);
  const Rng rng(5, RngPurpose::test);
  constexpr int draws = 40000;
  std::array<int, 6> counts{};
  for (int i = 0; i < draws; ++i) {
    const SampledToken token = draw(Sampler{}, logits, rng.uniform(static_cast<std::uint32_t>(i)));
    ++counts[static_cast<std::size_t>(token.id)];
    REQUIRE(std::abs(token.log_prob - std::log(p[static_cast<std::size_t>(token.id)])) < Tolerance<float>::loss);
    REQUIRE(token.full_log_prob == token.log_prob);
  }
  double chi = 0;
  for (std::size_t i = 0; i < p.size(); ++i) chi += std::pow(counts[i] - draws * p[i], 2) / (draws * p[i]);
  REQUIRE(chi < 20.5);  // 99.9 % point for 5 degrees of freedom
}

TEMPLATE_TEST_CASE("drawn tokens have the frequencies of the truncated and tempered distribution", "[rollout]", float,
                   double) {
  const auto logits = random_logits<TestType>(1000, 2.0);
  const Sampler s{.temperature = 0.8, .top_k = 40, .top_p = 0.9, .min_p = 0.02};
  const std::vector<double> p = distribution(s, logits);
  const Rng rng(6, RngPurpose::test);
  constexpr int draws = 20000;
  std::vector<int> counts(p.size(), 0);
  for (int i = 0; i < draws; ++i)
    ++counts[static_cast<std::size_t>(draw(s, logits, rng.uniform(static_cast<std::uint32_t>(i))).id)];
  double chi = 0;
  int kept = 0;
  for (std::size_t i = 0; i < p.size(); ++i) {
    if (p[i] == 0) {
      REQUIRE(counts[i] == 0);
      continue;
    }
    ++kept;
    chi += std::pow(counts[i] - draws * p[i], 2) / (draws * p[i]);
  }
  const double freedom = kept - 1;
  REQUIRE(kept > 5);
  REQUIRE(chi < freedom + 3.1 * std::sqrt(2 * freedom) + 10);  // about the 99.9 % point
}

TEMPLATE_TEST_CASE("every filter agrees with its definition by a full sort", "[rollout]", float, double) {
  const std::vector<Sampler> samplers = {
      {},
      {.temperature = 0.6},
      {.top_k = 1},
      {.top_k = 20},
      {.top_k = 700},
      {.top_p = 0.95},
      {.top_p = 0.1},
      {.top_p = 1e-6},
      {.min_p = 0.1},
      {.min_p = 1.0},
      {.temperature = 1.7, .top_k = 50, .top_p = 0.8, .min_p = 0.05},
      {.temperature = 0.3, .top_k = 600, .top_p = 0.999},
      {.temperature = 5.0, .top_p = 0.5},
  };
  for (const std::int64_t count : {1, 2, 15, 16, 17, 255, 256, 257, 3000}) {
    const auto logits = random_logits<TestType>(count, 3.0, static_cast<std::uint32_t>(count));
    const std::vector<double> wide(logits.begin(), logits.end());
    for (std::size_t k = 0; k < samplers.size(); ++k) {
      CAPTURE(count, k);
      const std::vector<double> p = distribution(samplers[k], logits), expected = sorted_reference(samplers[k], wide);
      REQUIRE(std::abs(std::accumulate(p.begin(), p.end(), 0.0) - 1) < Tolerance<float>::loss);
      for (std::size_t i = 0; i < p.size(); ++i) {
        REQUIRE((p[i] > 0) == (expected[i] > 1e-38));  // weights below float's smallest count as 0
        REQUIRE(std::abs(p[i] - expected[i]) < Tolerance<float>::loss);
      }
    }
  }
}

TEST_CASE("truncation keeps the hand-computed sets", "[rollout]") {
  const std::vector<double> p = {0.1, 0.4, 0.05, 0.25, 0.2};
  const auto logits = logits_of<double>(p);
  const auto kept = [&](const Sampler& s) {
    std::vector<int> ids;
    const std::vector<double> q = distribution(s, logits);
    for (int i = 0; i < 5; ++i)
      if (q[static_cast<std::size_t>(i)] > 0) ids.push_back(i);
    return ids;
  };
  REQUIRE(kept({.top_k = 2}) == std::vector<int>{1, 3});
  REQUIRE(kept({.top_k = 9}) == std::vector<int>{0, 1, 2, 3, 4});
  REQUIRE(kept({.top_p = 0.3}) == std::vector<int>{1});     // .4 alone reaches .3
  REQUIRE(kept({.top_p = 0.5}) == std::vector<int>{1, 3});  // .4 < .5 <= .65
  REQUIRE(kept({.top_p = 0.7}) == std::vector<int>{1, 3, 4});
  REQUIRE(kept({.min_p = 0.45}) == std::vector<int>{1, 3, 4});  // .45 * .4 = .18
  REQUIRE(kept({.min_p = 0.55}) == std::vector<int>{1, 3});     // .22
  // top-p looks at what top-k left: .4/.65 = .615 reaches .6, although .4 does not.
  REQUIRE(kept({.top_k = 2, .top_p = 0.6}) == std::vector<int>{1});
  REQUIRE(kept({.top_p = 0.6}) == std::vector<int>{1, 3});
  // Temperature comes before top-p: at T = 1/2 the squares .16 .0625 .04 .01 .0025 put .582 on the first token.
  REQUIRE(kept({.temperature = 0.5, .top_p = 0.58}) == std::vector<int>{1});
  REQUIRE(kept({.temperature = 1.0, .top_p = 0.58}) == std::vector<int>{1, 3});
}

TEST_CASE("ties: top-k keeps all that equal the k-th, top-p prefers lower ids, greedy takes the lowest", "[rollout]") {
  const std::vector<float> flat(1000, 0.5f);
  std::vector<double> p = distribution(Sampler{.top_k = 10}, flat);
  REQUIRE(std::count_if(p.begin(), p.end(), [](double x) { return x > 0; }) == 1000);
  p = distribution(Sampler{.top_p = 0.2505}, flat);
  for (std::size_t i = 0; i < p.size(); ++i) REQUIRE((p[i] > 0) == (i < 251));
  const std::vector<float> two = {0, 2, 1, 2, 0};
  REQUIRE(draw(Sampler{.temperature = 0}, two, 0.9).id == 1);
  p = distribution(Sampler{.top_k = 1}, two);
  REQUIRE(p[1] == 0.5);
  REQUIRE(p[3] == 0.5);
}

TEST_CASE("greedy is certain of its token and still reports the model's log-probability", "[rollout]") {
  const auto logits = logits_of<double>({0.2, 0.5, 0.3});
  const SampledToken token = draw(Sampler{.temperature = 0.0, .top_k = 2}, logits, 0.99);
  REQUIRE(token.id == 1);
  REQUIRE(token.log_prob == 0);
  REQUIRE(std::abs(token.full_log_prob - std::log(0.5)) < Tolerance<float>::loss);
}

TEST_CASE("a truncated draw reports the probability it had and the model's own (C37)", "[rollout][C37]") {
  const auto logits = logits_of<double>({0.1, 0.4, 0.05, 0.25, 0.2});
  const SampledToken token = draw(Sampler{.top_k = 2}, logits, 0.99);
  REQUIRE(token.id == 3);
  REQUIRE(std::abs(token.log_prob - std::log(0.25 / 0.65)) < Tolerance<float>::loss);
  REQUIRE(std::abs(token.full_log_prob - std::log(0.25)) < Tolerance<float>::loss);
  const SampledToken cool = draw(Sampler{.temperature = 0.5}, logits, 0.0);
  REQUIRE(cool.id == 0);
  REQUIRE(std::abs(cool.log_prob - std::log(0.01 / 0.275)) < Tolerance<float>::loss);
  REQUIRE(std::abs(cool.full_log_prob - std::log(0.1)) < Tolerance<float>::loss);
}

TEST_CASE("the ends of the unit interval draw the first and last token that has mass", "[rollout]") {
  const float none = -std::numeric_limits<float>::infinity();
  std::vector<float> logits(600, none);
  logits[300] = 1.0f;
  logits[310] = 1.0f;
  REQUIRE(draw(Sampler{}, logits, 0.0).id == 300);
  REQUIRE(draw(Sampler{}, logits, std::nextafter(1.0, 0.0)).id == 310);
  REQUIRE(draw(Sampler{}, logits, 0.49).id == 300);
  REQUIRE(draw(Sampler{}, logits, 0.51).id == 310);
  const auto many = random_logits<float>(50257, 3.0);
  const SampledToken last = draw(Sampler{}, many, std::nextafter(1.0, 0.0));
  REQUIRE(last.id > 49000);
}

TEST_CASE("extreme logits: differences of 1e4 and tiny temperatures stay finite", "[rollout]") {
  const std::vector<float> logits = {-1e4f, 1e4f, 0.0f, 9990.0f};
  for (const double t : {1.0, 1e-3, 100.0}) {
    const SampledToken token = draw(Sampler{.temperature = t}, logits, 0.5);
    REQUIRE(token.id == 1);
    REQUIRE(std::isfinite(token.log_prob));
    REQUIRE(std::isfinite(token.full_log_prob));
  }
}

TEST_CASE("logits that no distribution can be made of are refused", "[rollout]") {
  const float nan = std::numeric_limits<float>::quiet_NaN(), infinite = std::numeric_limits<float>::infinity();
  REQUIRE_THROWS_WITH(draw(Sampler{}, std::vector<float>{1, nan, 2}, 0.5), contains("NaN or +inf"));
  REQUIRE_THROWS_WITH(draw(Sampler{}, std::vector<float>{1, infinite, 2}, 0.5), contains("NaN or +inf"));
  REQUIRE_THROWS_WITH(draw(Sampler{}, std::vector<float>{-infinite, -infinite}, 0.5), contains("every logit is -inf"));
  REQUIRE_THROWS_AS(draw(Sampler{}, std::vector<float>{}, 0.5), ShapeError);
}

TEST_CASE("settings out of range name their key", "[rollout]") {
  REQUIRE_THROWS_WITH((Sampler{.temperature = -1.0}.check()), contains("temperature"));
  REQUIRE_THROWS_WITH((Sampler{.top_k = -1}.check()), contains("top_k"));
  REQUIRE_THROWS_WITH((Sampler{.top_p = 0.0}.check()), contains("top_p"));
  REQUIRE_THROWS_WITH((Sampler{.min_p = 1.5}.check()), contains("min_p"));
  REQUIRE_THROWS_WITH((Sampler{.max_new_tokens = 0}.check()), contains("max_new_tokens"));
  REQUIRE_NOTHROW(Sampler{.temperature = 0.0}.check());
}

TEST_CASE("a sampler whose text does not fit the loss is refused with what to set (C37)", "[rollout][C37]") {
  REQUIRE_NOTHROW(check_sampling_matches_loss(Sampler{}, {.reads_sampled_tokens = true}));
  REQUIRE_THROWS_WITH(
      check_sampling_matches_loss(Sampler{.top_p = 0.95}, {.reads_sampled_tokens = true, .corrects_by_ratio = true}),
      contains("cuts tokens off"));
  REQUIRE_THROWS_WITH(check_sampling_matches_loss(Sampler{.temperature = 0.0}, {.reads_sampled_tokens = true}),
                      contains("most probable"));
  REQUIRE_THROWS_WITH(check_sampling_matches_loss(Sampler{.temperature = 0.7}, {.reads_sampled_tokens = true}),
                      contains("temperature 0.7"));
  REQUIRE_NOTHROW(check_sampling_matches_loss(Sampler{.temperature = 0.7},
                                              {.reads_sampled_tokens = true, .corrects_by_ratio = true}));
  REQUIRE_THROWS_WITH(check_sampling_matches_loss(Sampler{.top_p = 0.95}, {}), contains("accept truncated text"));
  REQUIRE_NOTHROW(check_sampling_matches_loss(Sampler{.top_p = 0.95}, {.accepts_truncated_text = true}));
  REQUIRE_NOTHROW(check_sampling_matches_loss(Sampler{.temperature = 0.7}, {}));
}

TEST_CASE("the ratio q / mu of the two log-probabilities makes tempered draws unbiased for the model (C37)",
          "[rollout][C37]") {
  // E_mu[q/mu * f] = E_q[f], enumerated over the vocabulary by the middle of each token's interval.
  const std::vector<double> q = {0.1, 0.4, 0.05, 0.25, 0.2}, f = {3, -1, 7, 2, 0.5};
  const auto logits = logits_of<double>(q);
  const Sampler s{.temperature = 2.0};
  const std::vector<double> mu = distribution(s, logits);
  double estimate = 0, expected = 0, begin = 0;
  for (std::size_t i = 0; i < q.size(); ++i) {
    const SampledToken token = draw(s, logits, begin + mu[i] / 2);
    REQUIRE(token.id == static_cast<int>(i));
    estimate += mu[i] * std::exp(static_cast<double>(token.full_log_prob) - static_cast<double>(token.log_prob)) * f[i];
    expected += q[i] * f[i];
    begin += mu[i];
  }
  REQUIRE(std::abs(estimate - expected) < 10 * Tolerance<float>::loss);
}

TEMPLATE_TEST_CASE("the smallest temperatures draw the largest logit, ties alike, and no NaN", "[rollout]", float,
                   double) {
  const std::vector<TestType> logits{TestType(1), TestType(3), TestType(-2), TestType(3)};
  for (const double t : {1e-30, 1e-39, 1e-45, 1e-300, 5e-324}) {
    const Sampler s{.temperature = t};
    const auto p = kdlib::sampling_distribution(s, std::span<const TestType>(logits));
    REQUIRE(p == std::vector<double>{0, 0.5, 0, 0.5});
    kdlib::SamplerWorkspace workspace;
    const SampledToken token = kdlib::sample_token(s, std::span<const TestType>(logits), 0.75, workspace);
    REQUIRE(token.id == 3);
    REQUIRE(std::abs(token.log_prob - std::log(0.5f)) < 1e-6f);
    REQUIRE(std::isfinite(token.full_log_prob));
  }
}

TEST_CASE("what a loss does with sampled text follows from its parts (C37)", "[rollout][C37]") {
  using kdlib::Term;
  CHECK_FALSE(kdlib::sampled_text_use(kdlib::ReverseKl{}).reads_sampled_tokens);
  CHECK(kdlib::sampled_text_use(kdlib::SampledKl<kdlib::KlEstimator::k2>{}).reads_sampled_tokens);
  CHECK_FALSE(kdlib::sampled_text_use(kdlib::SampledKl<kdlib::KlEstimator::k2>{}).corrects_by_ratio);
  CHECK(kdlib::sampled_text_use(kdlib::PolicyGradient{}).corrects_by_ratio);
  CHECK_FALSE(kdlib::sampled_text_use(kdlib::PolicyGradient{.importance_ratio = false}).corrects_by_ratio);
  const auto mixed = kdlib::sampled_text_use(kdlib::Sum{Term{1.0, kdlib::PolicyGradient{}},
                                                        Term{1.0, kdlib::SampledKl<kdlib::KlEstimator::k3>{}},
                                                        Term{1.0, kdlib::ForwardKl{}}});
  CHECK(mixed.reads_sampled_tokens);
  CHECK_FALSE(mixed.corrects_by_ratio);  // one of its terms does not
  CHECK(kdlib::sampled_text_use(kdlib::Sum{Term{1.0, kdlib::BaselinePolicyGradient{}}, Term{1.0, kdlib::ForwardKl{}}})
            .corrects_by_ratio);
}
