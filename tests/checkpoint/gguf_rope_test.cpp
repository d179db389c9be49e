// SPDX-License-Identifier: Apache-2.0
// Every key of rotary positions that GGUF files have: read as llama.cpp reads it, or refused by name.
#include <cmath>

#include "kdlib/checkpoint/hf_config.hpp"
#include "kdlib/io/gguf_writer.hpp"
#include "support/catch.hpp"
#include "support/refusal.hpp"
#include "support/shared.hpp"

using namespace kdlib;
using namespace kdlib_tests;

namespace {

using Keys = std::vector<std::pair<std::string, double>>;

/// The configuration of the tiny Llama with further keys; whole numbers are written as u32.
DecoderConfig with_keys(const Keys& keys, const std::string& type = "") {
  const TemporaryDirectory dir;
  const GgufFile file(reference_file("gguf/golden_llama.gguf"));
  GgufWriter writer(dir / "m.gguf");
  for (const GgufValue& v : file.metadata()) writer.copy(v);
  if (!type.empty()) writer.string("llama.rope.scaling.type", type);
  for (const auto& [key, value] : keys) {
    const bool count = key.ends_with("length") || key.ends_with("count") || key.ends_with("window");
    if (count) writer.u32("llama." + key, static_cast<std::uint32_t>(value));
    else writer.f32("llama." + key, static_cast<float>(value));
  }
  for (const GgufTensor& t : file.tensors()) writer.add(t.name, t.type, t.shape, t.data);
  writer.commit();
  return gguf_config(GgufFile(dir / "m.gguf"));
}

RopeSettings rope(const Keys& keys, const std::string& type = "") { return with_keys(keys, type).rope; }

const Keys yarn = {{"rope.scaling.factor", 4}, {"rope.scaling.original_context_length", 1024}};

RopeSettings yarn_with(const Keys& more) {
  Keys keys = yarn;
  keys.insert(keys.end(), more.begin(), more.end());
  return rope(keys, "yarn");
}

}  // namespace

TEST_CASE("rotary keys of GGUF files are read", "[checkpoint][gguf]") {
  CHECK(rope({}).kind == RopeScalingKind::none);
  CHECK(rope({{"rope.dimension_count", 4}}).kind == RopeScalingKind::none);
  CHECK(rope({{"rope.scaling.factor", 8}}).kind == RopeScalingKind::linear);
  CHECK(rope({{"rope.scaling.factor", 8}}, "linear").factor == 8);
  CHECK(rope({{"rope.scaling.factor", 8}}, "none").kind == RopeScalingKind::none);
  CHECK(rope({{"rope.scale_linear", 2}}).factor == 2);
  CHECK(rope({{"rope.scale_linear", 2}, {"rope.scaling.factor", 8}}).factor == 8);
  CHECK(rope({{"rope.scale_linear", 2}, {"rope.scaling.factor", 0}}).kind == RopeScalingKind::none);  // as llama.cpp
  const RopeSettings y = yarn_with({{"rope.scaling.yarn_beta_fast", 16}, {"rope.scaling.yarn_beta_slow", 2}});
  CHECK(y.kind == RopeScalingKind::yarn);
  CHECK(y.factor == 4);
  CHECK(y.original_length == 1024);
  CHECK(y.beta_fast == 16);
  CHECK(y.beta_slow == 2);
  const double plain = 0.1 * std::log(4.0) + 1;  // what YaRN itself multiplies by
  CHECK(std::abs(rope_table_scale(y) - plain) < 1e-12);
  for (const char* key : {"rope.scaling.attn_factor", "rope.scaling.yarn_attn_factor"})
    CHECK(std::abs(rope_table_scale(yarn_with({{key, 0.5}})) - plain / 2) < 1e-12);
  CHECK(std::abs(
            rope_table_scale(yarn_with({{"rope.scaling.attn_factor", 0.5}, {"rope.scaling.yarn_attn_factor", 0.25}})) -
            plain / 8) < 1e-12);
  CHECK(yarn_with({{"rope.scaling.yarn_ext_factor", 1}, {"rope.scaling.yarn_log_multiplier", 0}}).factor == 4);
  CHECK(rope({{"rope.freq_base_swa", 500}}).theta == 10000);  // no layer slides
}

TEST_CASE("rotary keys of GGUF files that nothing computes are refused by name", "[checkpoint][gguf]") {
  const auto refused = [&](const Keys& keys, const std::string& type) { return refusal([&] { rope(keys, type); }); };
  const auto refused_yarn = [&](const char* key, double value) { return refusal([&] { yarn_with({{key, value}}); }); };
  CHECK_THAT(refused({}, "longrope"), contains("llama.rope.scaling.type \"longrope\""));
  for (const char* key : {"rope.scaling.factor", "rope.scale_linear"}) {
    CHECK_THAT(refused({{key, NAN}}, ""), contains(concat("llama.", key, " is nan; it must be a number from 1 on")));
    CHECK_THAT(refused({{key, -4}}, ""), contains(concat("llama.", key, " is -4")));
    CHECK_THAT(refused({{key, HUGE_VAL}}, ""), contains("is inf"));
  }
  CHECK_THAT(refused({}, "yarn"), contains("llama.rope.scaling.factor"));
  CHECK_THAT(refused({{"rope.scaling.factor", 4}}, "yarn"), contains("llama.rope.scaling.original_context_length"));
  CHECK_THAT(refused({{"rope.dimension_count", 2}}, ""), contains("llama.rope.dimension_count"));
  CHECK_THAT(refused_yarn("rope.scaling.yarn_ext_factor", 0), contains("llama.rope.scaling.yarn_ext_factor is 0"));
  CHECK_THAT(refused_yarn("rope.scaling.yarn_log_multiplier", 0.5), contains("yarn_log_multiplier is 0.5"));
  CHECK_THAT(refused({{"rope.freq_base_swa", 500}, {"attention.sliding_window", 4096}}, ""),
             contains("llama.rope.freq_base_swa is 500"));
}
