// SPDX-License-Identifier: Apache-2.0
// Schedules against their formulas.
#include <algorithm>
#include <cmath>

#include "kdlib/optim/schedule.hpp"
#include "support/catch.hpp"
#include "support/tolerance.hpp"

TEST_CASE("WarmupLinear is the rule of reference/make_training.py", "[optim]") {
  const std::int64_t steps = 20, warmup = 5;
  const double rate = 1e-3;
  const kdlib::WarmupLinear schedule{.peak = rate, .warmup = warmup, .total = steps};
  for (std::int64_t step = 0; step < steps; ++step) {
    const double expected =
        rate * (step < warmup ? std::min(1.0, static_cast<double>(step + 1) / static_cast<double>(warmup))
                              : std::max(0.0, static_cast<double>(steps - step) / static_cast<double>(steps - warmup)));
    CHECK(kdlib_tests::near(schedule(step), expected, kdlib_tests::Tolerance<double>::elementwise));
  }
  CHECK(schedule(steps) == 0.0);
  CHECK(schedule(steps + 7) == 0.0);
}

TEST_CASE("WarmupCosine starts at the peak, passes the middle at half and ends at the final rate", "[optim]") {
  const kdlib::WarmupCosine schedule{.peak = 2.0, .warmup = 10, .total = 110, .final = 1.0};
  CHECK(schedule(0) == 0.2);
  CHECK(schedule(9) == 2.0);
  CHECK(schedule(10) == 2.0);
  CHECK(kdlib_tests::near(schedule(60), 1.5, kdlib_tests::Tolerance<double>::elementwise));
  CHECK(kdlib_tests::near(schedule(35), 1.5 + 0.5 * std::sqrt(0.5),
                          kdlib_tests::Tolerance<double>::elementwise));  // cos(pi/4)
  CHECK(schedule(110) == 1.0);
  CHECK(schedule(1000) == 1.0);
}

TEST_CASE("schedules without a warm-up begin at the peak", "[optim]") {
  CHECK(kdlib::WarmupLinear{.peak = 3.0, .total = 4}(0) == 3.0);
  CHECK(kdlib::WarmupCosine{.peak = 3.0, .total = 4}(0) == 3.0);
  CHECK(kdlib::ConstantRate{0.5}(123456) == 0.5);
}

TEST_CASE("a warm-up longer than the run is refused", "[optim]") {
  CHECK_THROWS_AS((kdlib::WarmupLinear{.warmup = 5, .total = 4}(0)), kdlib::ConfigError);
  CHECK_THROWS_WITH((kdlib::WarmupCosine{.warmup = 5, .total = 4}(0)), contains("warmup is 5 steps, total 4"));
}

TEST_CASE("a schedule whose total is not set is refused instead of giving rate 0 at every step", "[optim]") {
  CHECK_THROWS_WITH((kdlib::WarmupLinear{.peak = 1e-3}(0)), contains("[WarmupLinear] total is 0 steps"));
  CHECK_THROWS_WITH((kdlib::WarmupCosine{.peak = 1e-3}(0)), contains("[WarmupCosine] total is 0 steps"));
  CHECK_THROWS_WITH((kdlib::WarmupCosine{.peak = 1e-3, .total = -4}(9)), contains("total is -4 steps"));
}
