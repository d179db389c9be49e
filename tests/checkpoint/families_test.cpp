// SPDX-License-Identifier: Apache-2.0
// Mistral, Gemma 2 and Gemma 3: what their config.json and GGUF files mean, what is written, what is refused.
#include "kdlib/checkpoint/gguf_save.hpp"
#include "kdlib/checkpoint/hf_config.hpp"
#include "kdlib/checkpoint/load.hpp"
#include "kdlib/checkpoint/save.hpp"
#include "kdlib/io/gguf_writer.hpp"
#include "model/golden.hpp"
#include "support/catch.hpp"
#include "support/refusal.hpp"
#include "support/shared.hpp"
#include "support/tolerance.hpp"

using namespace kdlib;
using namespace kdlib_tests;
using Model = Decoder<Cpu, float>;

namespace {

DecoderConfig parse(const std::string& type, const std::string& more) {
  const std::string sizes =
      R"("vocab_size":64,"hidden_size":32,"intermediate_size":48,"num_hidden_layers":7,"num_attention_heads":4)";
  return parse_hf_config(Json::parse("{\"model_type\":\"" + type + "\"," + sizes + more + "}", "config.json"),
                         "config.json");
}

std::string refused(const std::string& type, const std::string& more) {
  return refusal([&] { parse(type, more); });
}

using Windows = std::vector<std::int64_t>;

/// The golden model of a family with the scale that readers of GGUF files compute with.
DecoderConfig gguf_golden(Family family) {
  DecoderConfig c = golden_config(family);
  c.query_scalar = static_cast<double>(c.head_size);
  return c;
}

TokenBatch some_tokens() {
  TokenBatch batch;
  batch.append(std::vector<std::int32_t>{1, 5, 3, 7, 2, 11, 4, 9});
  return batch;
}

}  // namespace

TEST_CASE("Mistral: one window for all layers or none, and a head size of its own", "[model][config]") {
  const DecoderConfig first = parse("mistral", R"(,"sliding_window":4096,"rope_theta":10000.0,"rms_norm_eps":1e-5)");
  CHECK(first.family == Family::mistral);
  CHECK(first.windows == Windows(7, 4096));
  CHECK(first.head_size == 8);
  CHECK(first.biases == BiasSettings{});
  CHECK_FALSE(first.tied_head);
  const DecoderConfig third = parse("mistral", R"(,"sliding_window":null,"rope_theta":1000000.0)");
  CHECK(third.windows.empty());
  CHECK(third.eos_ids == std::vector<std::int32_t>{2});  // the class's default
  CHECK(parse("mistral", R"(,"head_dim":12,"sliding_window":null)").head_size == 12);
  CHECK(parse("mistral", "").windows == Windows(7, 4096));  // so is this one: only null is none
  CHECK_THAT(refused("mistral", R"(,"layer_types":["full_attention"])"), contains("all layers of model_type mistral"));
  CHECK_THAT(refused("mistral", R"(,"attention_bias":true)"), contains("attention_bias"));
  CHECK_THAT(refused("mistral", R"(,"sliding_window":-1)"), contains("sliding_window must not be negative"));
}

TEST_CASE("Gemma 2: caps, scale, every other layer slides; missing keys mean the class's defaults", "[model][config]") {
  const DecoderConfig c =
      parse("gemma2", R"(,"head_dim":8,"query_pre_attn_scalar":224,"attn_logit_softcapping":20.0,)"
                      R"("final_logit_softcapping":10.0,"sliding_window":5,)"
                      R"("hidden_activation":"gelu_pytorch_tanh","hidden_act":"gelu_pytorch_tanh")");
  CHECK(c.attention_softcap == 20);
  CHECK(c.final_softcap == 10);
  CHECK(c.attention_scale() == 1 / std::sqrt(224.0));
  CHECK(c.windows == Windows{5, 0, 5, 0, 5, 0, 5});
  CHECK(c.tied_head);
  CHECK_FALSE(c.sliding_rope);
  const DecoderConfig d = parse("gemma2", "");
  CHECK(d.head_size == 256);
  CHECK(d.query_scalar == 256);
  CHECK(d.attention_softcap == 50);
  CHECK(d.final_softcap == 30);
  CHECK(d.windows == Windows{4096, 0, 4096, 0, 4096, 0, 4096});
  CHECK(d.context_length == 8192);
  CHECK(d.bos_ids == std::vector<std::int32_t>{2});
  const DecoderConfig none = parse("gemma2", R"(,"attn_logit_softcapping":null,"final_logit_softcapping":null)");
  CHECK(none.attention_softcap == 0);
  CHECK(none.final_softcap == 0);
  CHECK_THAT(refused("gemma2", R"(,"hidden_activation":"silu")"), contains("gelu_pytorch_tanh is"));
  CHECK_THAT(refused("gemma2", R"(,"use_bidirectional_attention":true)"), contains("use_bidirectional_attention"));
  CHECK_THAT(refused("gemma2", R"(,"query_pre_attn_scalar":0)"), contains("must be positive"));
  CHECK_THAT(refused("gemma2", R"(,"final_logit_softcapping":-1)"), contains("must not be negative"));
  CHECK_THAT(refused("gemma2", R"(,"sliding_window":null)"), contains("sliding_window must be positive"));
}

TEST_CASE("Gemma 3: angles by kind of layer under older and newer keys", "[model][config]") {
  const std::string common = R"(,"head_dim":8,"query_pre_attn_scalar":8,"sliding_window":5)";
  const DecoderConfig older = parse(
      "gemma3_text", common + R"(,"rope_theta":1000000.0,"rope_local_base_freq":10000.0,"sliding_window_pattern":6,)"
                              R"("rope_scaling":{"rope_type":"linear","factor":8.0})");
  const DecoderConfig newer = parse(
      "gemma3_text",
      common + R"(,"rope_parameters":{"full_attention":{"rope_type":"linear","rope_theta":1000000.0,"factor":8.0},)"
               R"("sliding_attention":{"rope_type":"default","rope_theta":10000.0}})");
  for (const DecoderConfig& c : {older, newer}) {
    CHECK(c.family == Family::gemma3);
    CHECK(c.rope.theta == 1e6);
    CHECK(c.rope.kind == RopeScalingKind::linear);
    CHECK(c.rope.factor == 8);
    REQUIRE(c.sliding_rope);
    CHECK(c.sliding_rope->theta == 1e4);
    CHECK(c.sliding_rope->kind == RopeScalingKind::none);
    CHECK(c.windows == Windows{5, 5, 5, 5, 5, 0, 5});
    CHECK(c.head_norm());
    CHECK(c.final_softcap == 0);
  }
  const DecoderConfig plain = parse("gemma3_text", "");
  CHECK(plain.rope.theta == 1e6);
  CHECK(plain.sliding_rope->theta == 1e4);
  CHECK(plain.context_length == 131072);
  CHECK_FALSE(parse("gemma3_text", R"(,"sliding_window_pattern":1)").sliding_rope);
  CHECK_THAT(refused("gemma3_text", R"(,"attn_logit_softcapping":50.0)"), contains("does not cap its scores"));
  CHECK_THAT(refused("gemma3_text", R"(,"rope_parameters":{"rope_theta":1e6})"), contains("full_attention"));
  CHECK_THAT(refused("gemma3", ""), contains("gemma3_text"));
  CHECK_THAT(refused("llama", R"(,"rope_parameters":{"full_attention":{}})"), contains("gemma3_text only"));
  CHECK_THAT(refused("qwen3", R"(,"rope_local_base_freq":10000.0)"), contains("rope_local_base_freq"));
}

TEST_CASE("configurations of these families made by hand read back", "[model][config]") {
  for (const Family family : {Family::mistral, Family::gemma2, Family::gemma3}) {
    CAPTURE(family_name(family));
    DecoderConfig c = golden_config(family);
    c.bos_ids = {1};
    c.eos_ids = {2, 3};
    const DecoderConfig back =
        parse_hf_config(Json::parse(hf_config_text(c, "bfloat16"), "config.json"), "config.json");
    CHECK(back.family == c.family);
    CHECK(back.parameter_count() == c.parameter_count());
    CHECK(back.windows == c.windows);
    CHECK(back.attention_scale() == c.attention_scale());
    CHECK(back.attention_softcap == c.attention_softcap);
    CHECK(back.final_softcap == c.final_softcap);
    CHECK(back.rope.theta == c.rope.theta);
    CHECK(back.rope.factor == c.rope.factor);
    CHECK(back.sliding_rope.has_value() == c.sliding_rope.has_value());
    if (c.sliding_rope) CHECK(back.sliding_rope->theta == c.sliding_rope->theta);
    CHECK(back.eos_ids == c.eos_ids);
    CHECK(back.tied_head == c.tied_head);
  }
  DecoderConfig uneven = golden_config(Family::mistral);
  uneven.windows = {3, 0};
  CHECK_THAT(refusal([&] { (void)hf_config_text(uneven, "float32"); }), contains("see the same window"));
  DecoderConfig none = golden_config(Family::mistral);
  none.windows.clear();
  CHECK(parse_hf_config(Json::parse(hf_config_text(none, "float32"), "x"), "x").windows.empty());
}

TEST_CASE("Gemma and Mistral as GGUF come back with their values, whole or kept in the file", "[model][gguf]") {
  for (const Family family : {Family::mistral, Family::gemma2, Family::gemma3}) {
    CAPTURE(family_name(family));
    DecoderConfig c = gguf_golden(family);
    if (family == Family::mistral) c.windows.clear(), c.query_scalar = 0;
    Model model = Model::from_config(c, 3);
    fill_golden(model);
    const TemporaryDirectory dir;
    CHECK(save_gguf(model, nullptr, dir / "m.gguf", {.type = GgufType::f32}).empty());
    Model again = Model::from_pretrained(dir / "m.gguf");
    CHECK(again.config().family == (family == Family::mistral ? Family::llama : family));
    CHECK(again.config().windows == c.windows);
    CHECK(again.config().attention_scale() == c.attention_scale());
    const auto expected = logits_of(model, model.forward(some_tokens()));
    const auto got = logits_of(again, again.forward(some_tokens()));
    CHECK(max_difference(expected.data(), got.data(), got.size()) < Tolerance<float>::reduction);
    Model kept = Model::from_pretrained(dir / "m.gguf", {.trainable = false, .weights = WeightStorage::in_file});
    const auto mapped = logits_of(kept, kept.forward(some_tokens()));
    CHECK(max_difference(expected.data(), mapped.data(), mapped.size()) < Tolerance<float>::reduction);
    again.save_pretrained(dir / "hf");
    Model third = Model::from_pretrained(dir / "hf");
    const auto last = logits_of(third, third.forward(some_tokens()));
    CHECK(max_difference(got.data(), last.data(), last.size()) == 0);
  }
}

TEST_CASE("norms of Gemma's GGUF files hold 1 + weight under llama.cpp's names", "[model][gguf]") {
  Model model = Model::from_config(gguf_golden(Family::gemma3), 3);
  fill_golden(model);
  const TemporaryDirectory dir;
  save_gguf(model, nullptr, dir / "m.gguf", {.type = GgufType::f32});
  const GgufFile file(dir / "m.gguf");
  const std::string layer = "model.layers.1.";
  for (const auto& [name, tensor] : std::vector<std::pair<std::string, std::string>>{
           {layer + "input_layernorm", "blk.1.attn_norm"},
           {layer + "post_attention_layernorm", "blk.1.post_attention_norm"},
           {layer + "pre_feedforward_layernorm", "blk.1.ffn_norm"},
           {layer + "post_feedforward_layernorm", "blk.1.post_ffw_norm"},
           {layer + "self_attn.q_norm", "blk.1.attn_q_norm"},
           {"model.norm", "output_norm"}}) {
    CAPTURE(name);
    const Parameter<float, Cpu>* p = model.find_parameter(name + ".weight");
    REQUIRE(p != nullptr);
    const std::vector<double> stored = decode_tensor<double>(file.tensor(tensor + ".weight"));
    for (std::size_t i = 0; i < stored.size(); ++i) CHECK(stored[i] == static_cast<double>(1.0f + p->value.data()[i]));
  }
  const LoadPlan plan = plan_load<Cpu, float>(dir / "m.gguf");
  for (const PlannedWeight& w : plan.weights)
    if (w.name == "model.norm.weight") CHECK(w.tensors.front().text(8) == "all rows, less 1");
  CHECK(file.find("gemma3.rope.freq_base_swa")->as_double() == 1e4);
  CHECK(file.find("gemma3.rope.scaling.factor")->as_double() == 8);
  CHECK(file.find("gemma3.attention.sliding_window")->as_int() == 3);
  CHECK(file.find("gemma3.attention.sliding_window_pattern") != nullptr);  // two layers are no period of six
}

TEST_CASE("GGUF metadata of Gemma: what readers know without a key", "[model][gguf]") {
  const TemporaryDirectory dir;
  save_gguf(Model::from_config(gguf_golden(Family::gemma2), 3), nullptr, dir / "m.gguf", {.type = GgufType::f32});
  const auto with = [&](std::int64_t layers, bool keys) {
    const GgufFile file(dir / "m.gguf");
    GgufWriter writer(dir / "other.gguf");
    for (const GgufValue& v : file.metadata()) {
      const bool optional = v.key().ends_with("softcapping") || v.key().ends_with("sliding_window");
      if (v.key() == "gemma2.block_count") writer.u32("gemma2.block_count", static_cast<std::uint32_t>(layers));
      else if (keys || !optional) writer.copy(v);
    }
    for (const GgufTensor& t : file.tensors()) writer.add(t.name, t.type, t.shape, t.data);
    writer.commit();
    return gguf_config(GgufFile(dir / "other.gguf"));
  };
  const DecoderConfig given = with(2, true), missing = with(2, false), largest = with(46, true);
  CHECK(std::abs(given.attention_softcap - 0.8) < 1e-12);
  CHECK(std::abs(given.final_softcap - 1.5) < 1e-12);
  CHECK(given.windows == Windows{3, 0});
  CHECK(missing.attention_softcap == 50);
  CHECK(missing.final_softcap == 30);
  CHECK(missing.windows == Windows{4096, 0});
  CHECK(given.query_scalar == 4);    // the head's size
  CHECK(largest.query_scalar == 2);  // hidden states of 8 shared by 4 heads, as in the model of 27 billion
}

TEST_CASE("what readers of Gemma's and Mistral's GGUF files would compute otherwise is not written", "[model][gguf]") {
  const TemporaryDirectory dir;
  const auto write = [&](const DecoderConfig& c) {
    return refusal([&] { save_gguf(Model::from_config(c, 1), nullptr, dir / "m.gguf", {.type = GgufType::f32}); });
  };
  CHECK_THAT(write(golden_config(Family::gemma2)), contains("query_pre_attn_scalar is 7"));
  DecoderConfig c = gguf_golden(Family::gemma2);
  c.final_softcap = 0;
  CHECK_THAT(write(c), contains("cap scores and logits"));
  c = gguf_golden(Family::gemma2);
  c.tied_head = false;
  CHECK_THAT(write(c), contains("take the embedding as the head"));
  c = gguf_golden(Family::gemma3);
  c.sliding_rope->kind = RopeScalingKind::linear;
  c.sliding_rope->factor = 2;
  CHECK_THAT(write(c), contains("scaled angles of the layers that slide"));
  c = golden_config(Family::mistral);
  CHECK_THAT(write(c), contains("sliding windows of 3 keys have no place"));
  CHECK_FALSE(path_exists(dir / "m.gguf"));
}
