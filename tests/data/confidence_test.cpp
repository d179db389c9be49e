// SPDX-License-Identifier: Apache-2.0
// What is made of a teacher's log-probabilities: weights around a running mean, kinds of steps, modes of reasoning. The
// numbers are worked out by hand or by Python from the formulas of docs/formats.md ("Rescored parts") and
// kdlib/data/confidence.hpp; those of the modes by an independent Philox4x32-10.
#include "kdlib/data/confidence.hpp"

#include "kdlib/data/curriculum.hpp"
#include "kdlib/train/spans.hpp"
#include "support/catch.hpp"

using namespace kdlib;
using namespace kdlib_tests;

namespace {

std::string steps_of(double share, int n, char yes, char no) {
  std::string out;
  for (int k = 0; k < n; ++k) out += is_shared_step(k, share) ? yes : no;
  return out;
}

}  // namespace

TEST_CASE("confidence weights, spans and the step's loss are the golden numbers", "[data][confidence]") {
  ConfidenceWeights weights;
  CHECK_THROWS_AS(weights.center(), ConfigError);
  SpanWeights spans({{"reasoning", 1}, {"final", 1}});
  // L = sum of span loss / count of the span, each token's loss times its weight.
  const auto step = [&](const std::vector<float>& teacher, const std::vector<std::int32_t>& span,
                        const std::vector<double>& student) {
    weights.begin_step(teacher, span);
    spans.begin_step();
    spans.count(span);
    const std::vector<float> w = spans.weights(span);
    double loss = 0;
    for (std::size_t r = 0; r < span.size(); ++r)
      loss += static_cast<double>(w[r]) * weights.weight(teacher[r], span[r]) * -student[r];
    return loss;
  };
  const double first = step({-0.1f, -2.3f, -5, -0.7f, -0.01f}, {0, 0, 0, 1, 1}, {-0.5, -2, -4, -1, -0.2});
  CHECK(weights.center() == Approx(-1.622).epsilon(1e-6));
  CHECK(weights.weight(-0.1f) == 4);
  CHECK(weights.weight(-2.3f) == Approx(0.507631).epsilon(1e-5));
  CHECK(weights.weight(-5) == 0.25);
  CHECK(weights.weight(-0.7f) == Approx(2.514314).epsilon(1e-5));
  CHECK(first == Approx(1.338421 + 1.657157).epsilon(1e-6));
  ConfidenceWeights copy;
  copy.restore(weights.state());
  const double second = step({-1, -3, -0.2f}, {0, 0, 1}, {-1.2, -2.5, -0.3});
  CHECK(weights.center() == Approx(-1.53875).epsilon(1e-6));
  CHECK(weights.weight(-1) == Approx(1.713863).epsilon(1e-5));
  CHECK(weights.weight(-3) == 0.25);
  CHECK(weights.weight(-0.2f) == Approx(3.814273).epsilon(1e-5));
  CHECK(second == Approx(2.485100).epsilon(1e-6));
  copy.begin_step({-1, -3, -0.2f}, {0, 0, 1});
  CHECK(copy.state() == weights.state());  // every bit
  copy.begin_step({}, {});
  CHECK(copy.state() == weights.state());
  CHECK_THROWS_AS(copy.restore("0123"), FormatError);
  CHECK_THROWS_AS(copy.restore(std::string(64, 'x')), FormatError);
  ConfidenceWeights apart({.decay = 0.5, .center_by_span = true});
  apart.begin_step({-1, -3, -0.5f}, {0, 0, 1});
  apart.begin_step({-2}, {0});
  CHECK(apart.center(0) == Approx((0.5 * -4 - 2) / (0.5 * 2 + 1)));
  CHECK(apart.center(1) == -0.5);
  CHECK_THROWS_AS(ConfidenceWeights({.temperature = 0}), ConfigError);
  CHECK_THROWS_AS(ConfidenceWeights({.least = 2}), ConfigError);
}

TEST_CASE("kinds of steps are spread evenly, modes and phases follow ticket and progress", "[data][curriculum]") {
  CHECK(steps_of(0.65, 20, 'R', 'v') == "vRvRRvRRvRRvRRvRRvRR");
  CHECK(steps_of(0.15, 20, 'A', 'o') == "ooooooAooooooAoooooA");
  CHECK_THROWS_AS(is_shared_step(0, 1.5), ConfigError);
  const Curriculum curriculum;
  const auto modes = [&](double trained) {
    std::string out;
    for (std::int64_t n = 0; n < 10; ++n)
      out += "LMH"[static_cast<std::size_t>(curriculum.mode(n, curriculum.at(trained).shares))];
    return out;
  };
  CHECK(modes(0) == "MLLMLLLLLL");
  CHECK(modes(0.3 * 8e9) == "HLMMMMLMLM");
  CHECK(modes(0.7 * 8e9) == "HLHHMMMHMH");
  CHECK(curriculum.at(0.29 * 8e9).samples == 1);
  CHECK(curriculum.at(0.66 * 8e9).samples == 2);
  CHECK(curriculum.at(0.66 * 8e9).tickets == 32);
  CHECK(curriculum.at(0.66 * 8e9).shares == std::array<double, 3>{0.2, 0.6, 0.2});
  CHECK(curriculum.at(0, 1).caps == std::array<std::int64_t, 3>{768, 1536, 3072});
  CHECK(curriculum.at(0.8 * 8e9, 2).shares[1] == Approx(0.6));
  CHECK(curriculum.at(0.8 * 8e9, 2).shares[2] == Approx(0.3));
  CurriculumSettings wrong;
  wrong.rollouts = 7;
  CHECK_THROWS_WITH(Curriculum(wrong), contains("7 texts a step"));
  BackPressure pressure;
  int level = 0;
  for (int i = 0; i < 19; ++i) level += pressure.add_step(3, 7);
  CHECK(level == 0);
  CHECK(pressure.add_step(3, 7) == 1);
  for (int i = 0; i < 20; ++i) CHECK(pressure.add_step(3, 7) == 0);  // it rests
  CHECK(pressure.add_step(3, 7) == 1);
  level = pressure.level();
  for (int i = 0; i < 45; ++i) level += pressure.add_step(0, 7);
  CHECK(level == 1);
  CHECK(pressure.level() == 1);
}
