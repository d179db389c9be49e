// SPDX-License-Identifier: Apache-2.0
// The plan of a step over a network, against numbers worked out by hand.
#include "kdlib/tools/scale_plan.hpp"

#include "support/catch.hpp"

namespace {
using kdlib::link_bytes;
using kdlib::plan_scale;
using kdlib::ScaleInputs;

bool near(double a, double b) { return std::abs(a - b) <= 1e-9 * std::abs(b); }

/// A 32-billion teacher, a student of 7.6 billion with an adapter of 40.4 million numbers, 8 answers of 512 tokens.
ScaleInputs qwen() {
  ScaleInputs in;
  in.tokens = in.rows = 8 * 512;
  in.teacher_parameters = 32e9;
  in.student_parameters = 7.6e9;
  in.trained = 40.4e6;
  in.teacher_flops = in.student_flops = 400e12;
  in.slices = 4;
  return in;
}
}  // namespace

TEST_CASE("a reduction moves 2 (W - 1) / W gradients", "[tools]") {
  ScaleInputs in = qwen();
  in.ranks = 2;
  in.link = link_bytes("10Gbit");
  CHECK(near(plan_scale(in).reduce, 161.6e6 / 1.25e9));  // 0.13 s
  in.link = link_bytes("100Mbit");
  CHECK(near(plan_scale(in).reduce, 161.6e6 / 12.5e6));  // 13 s
  in.trained = 7.6e9;
  CHECK(near(plan_scale(in).reduce, 30.4e9 / 12.5e6));  // 40 minutes
  in.ranks = 8;
  in.latency = 0.03;
  CHECK(near(plan_scale(in).reduce, 1.75 * 30.4e9 / 12.5e6 + 0.06));
  CHECK(plan_scale(in).bottleneck == "the reduction");
  CHECK(plan_scale(in).local_steps > 1000);
}

TEST_CASE("the signal's way over the wire is rows times bytes", "[tools]") {
  ScaleInputs in = qwen();
  in.link = link_bytes("100Mbit");
  in.row_bytes = 392;                                       // top 64, binary
  CHECK(near(plan_scale(in).wire, 4096 * 392 / 12.5e6));    // 0.13 s
  in.row_bytes = 10240;                                     // a hidden state of 5120 in bf16
  CHECK(near(plan_scale(in).wire, 4096 * 10240 / 12.5e6));  // 3.4 s
  CHECK(plan_scale(in).bottleneck == "the wire");
  const kdlib::ScalePlan p = plan_scale(in);
  in.row_bytes = p.balanced_row_bytes;
  CHECK(near(plan_scale(in).wire, plan_scale(in).score));
}

TEST_CASE("one rank without a wire computes alone, and the parts overlap but for a slice", "[tools]") {
  const ScaleInputs in = qwen();
  const kdlib::ScalePlan p = plan_scale(in);
  CHECK(near(p.score, 2 * 32e9 * 4096 / 400e12));
  CHECK(near(p.train, 4 * 7.6e9 * 4096 / 400e12));
  CHECK(p.wire == 0);
  CHECK(p.reduce == 0);
  CHECK(near(p.step, p.score * 1.25 + p.train));
  CHECK(p.local_steps == 1);
  CHECK(p.balanced_teachers == 3);  // 64e9 / 30.4e9, rounded up
}

TEST_CASE("a link without a unit, and ranks without a link, are refused", "[tools]") {
  CHECK(near(link_bytes("1GB"), 1e9));
  for (const char* word : {"", "100", "Mbit", "-1Mbit", "100 Mbit", "100mbit"})
    CHECK_THROWS_AS(link_bytes(word), kdlib::ConfigError);
  ScaleInputs in = qwen();
  in.ranks = 2;
  CHECK_THROWS_AS(plan_scale(in), kdlib::ConfigError);
  in.ranks = 0;
  CHECK_THROWS_AS(plan_scale(in), kdlib::ConfigError);
}

TEST_CASE("where each rank has the teacher its passes take their turn between writing and training", "[tools]") {
  ScaleInputs in = qwen();
  in.teacher_apart = false;
  in.ranks = 4;
  in.link = link_bytes("10Gbit");
  in.written = 4096;
  in.write_rate = 100;
  const kdlib::ScalePlan p = plan_scale(in);
  CHECK(near(p.score, 2 * 32e9 * 4096 / (4 * 400e12)));
  CHECK(near(p.write, 4096 / (4 * 100.0)));
  CHECK(near(p.step, p.write + p.score + p.train + p.reduce));
}

TEST_CASE("a latency has a unit", "[tools]") {
  CHECK(near(kdlib::latency_seconds("30ms"), 0.03));
  CHECK(near(kdlib::latency_seconds("2us"), 2e-6));
  CHECK(kdlib::latency_seconds("0s") == 0);
  for (const char* word : {"", "30", "ms", "-1ms", "30 ms", "1h"})
    CHECK_THROWS_AS(kdlib::latency_seconds(word), kdlib::ConfigError);
}
