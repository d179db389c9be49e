// SPDX-License-Identifier: Apache-2.0
// Adaptive KL: the example by hand, a reference that sorts, exact zeros (C25).
#include <algorithm>

#include "loss/row_reference.hpp"

using namespace kdlib;
using namespace kdlib_tests;

namespace {

/// The head by sorting all entries, the weights from the definition.
RowReference adaptive_kl(const Row& s, const Row& t, double head_mass, double temperature) {
  const Row a = log_softmax(s, temperature), b = log_softmax(t, temperature);
  std::vector<std::size_t> ids(s.size());
  for (std::size_t i = 0; i < ids.size(); ++i) ids[i] = i;
  std::stable_sort(ids.begin(), ids.end(), [&](std::size_t i, std::size_t j) { return t[i] > t[j]; });
  double mass = 0, head = 0, tail = 0;
  for (const std::size_t i : ids) {
    (mass < head_mass ? head : tail) += std::abs(std::exp(a[i]) - std::exp(b[i]));
    mass += std::exp(b[i]);
  }
  const double share = head + tail > 0 ? head / (head + tail) : 0.5;
  RowReference total;
  add(total, share, forward_kl(s, t, temperature));
  add(total, 1 - share, reverse_kl(s, t, temperature));
  return total;
}

}  // namespace

TEST_CASE("adaptive KL of the example weighs the forward part by the head's share of the gap", "[loss]") {
  // p_t(0) = .6439 reaches the head mass of one half alone: g_head = .476509163, g_tail the rest of the same size in
  // all (both sum to 1).
  const double head = .476509163, tail = .039121527 + .367909915 + .069477722, share = head / (head + tail);
  CHECK(run_row<double>(AdaptiveKl{}, example_student(), example_teacher()).value() ==
        Approx(share * .650245281575959 + (1 - share) * .685861055921870).epsilon(1e-9));
  // .7 takes the second entry, .8808 together, into the head
  const double wide = (head + .039121527) / (head + tail);
  const auto got = run_row<double>(AdaptiveKl{.head_mass = 0.7}, example_student(), example_teacher());
  CHECK(got.value() == Approx(wide * .650245281575959 + (1 - wide) * .685861055921870).epsilon(1e-9));
  CHECK(got.gradient.row(0)[0] == Approx(wide * -.476509163 + (1 - wide) * -.340336242).epsilon(1e-8));
}

TEMPLATE_TEST_CASE("adaptive KL equals the reference on short and long rows, with ties and in sums", "[loss]", double,
                   float, bf16) {
  Normal random(54);
  for (const std::int64_t v : {2, 3, 17, 1000, 1025, 5000, 40000}) {
    for (const float temperature : {1.0f, 2.0f}) {
      const bool peaked = v % 2 == 1;
      Row s = random.row(v, peaked ? 3 : 1), t = random.row(v, peaked ? 3 : 1);
      for (Row* row : {&s, &t})
        for (double& x : *row)
          x = static_cast<double>(
              static_cast<float>(bf16(v == 1000 ? std::round(x) : x)));  // representable; ties at V = 1000
      const double mass = 0.3 + 0.05 * static_cast<double>(v % 9);
      const AdaptiveKl loss{.head_mass = mass, .temperature = temperature, .t_squared = false};
      INFO("V = " << v << ", T = " << temperature);
      check_row(run_row<TestType>(loss, s, t), 0, adaptive_kl(s, t, mass, static_cast<double>(temperature)));
      RowReference want;  // two heads in one sum
      add(want, 0.7, adaptive_kl(s, t, mass, static_cast<double>(temperature)));
      add(want, 0.2, adaptive_kl(s, t, 0.9, 1));
      add(want, 0.1, cross_entropy(s, 1));
      const std::int32_t label[] = {1};
      if constexpr (!std::is_same_v<TestType, bf16>)
        check_row(
            run_row<TestType>(Sum{Term{0.7, loss}, Term{0.2, AdaptiveKl{.head_mass = 0.9}}, Term{0.1, CrossEntropy{}}},
                              s, t, {.labels = label}),
            0, want);
    }
  }
}

TEMPLATE_TEST_CASE(
    "C25: adaptive weights at p = q are no 0 / 0: value and gradient are exactly 0; extreme and NaN rows behave",
    "[loss]", double, float, bf16) {
  Normal random(55);
  for (const std::int64_t v : {2, 33, 3000}) {
    const Logits<TestType> z({random.row(v, 4)});
    const auto got = run_rows(AdaptiveKl{}, z, z);
    CHECK(got.result.loss.sum == 0);
    for (const TestType g : got.gradient.values) REQUIRE(static_cast<double>(g) == 0);
  }
  const double inf = INFINITY;
  const auto masked = run_row<TestType>(AdaptiveKl{}, {0.5, -inf, 1, -inf, 2}, {1, -inf, 0, -inf, 1.5});
  CHECK(masked.value() > 0);
  CHECK(std::isfinite(masked.value()));
  CHECK(masked.gradient.row(0)[1] == 0);
  CHECK(std::isfinite(run_row<TestType>(AdaptiveKl{}, {1e4, -1e4, 0, 3}, {-1e4, 1e4, 0, 3}).value()));
  CHECK(std::isnan(run_row<TestType>(AdaptiveKl{}, {1, NAN, 0}, {1, 2, 3}).value()));
  CHECK_THROWS_AS(run_row<TestType>(AdaptiveKl{.head_mass = 1}, {1, 2}, {2, 1}), ConfigError);
}
