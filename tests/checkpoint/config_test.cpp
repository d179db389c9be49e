// SPDX-License-Identifier: Apache-2.0
// config.json in old and new form, rope scalings, windows, what is written back, what is refused and how.
#include "kdlib/checkpoint/hf_config.hpp"

#include <cmath>

#include "kdlib/backend/cpu.hpp"
#include "model/golden.hpp"
#include "support/catch.hpp"
#include "support/tolerance.hpp"

using namespace kdlib;

namespace {

const std::string base =
    R"("vocab_size":64,"hidden_size":32,"intermediate_size":48,"num_hidden_layers":4,"num_attention_heads":4,)"
    R"("num_key_value_heads":2)";

DecoderConfig parse(const std::string& type, const std::string& more = "") {
  return parse_hf_config(Json::parse("{\"model_type\":\"" + type + "\"," + base + more + "}", "config.json"),
                         "config.json");
}

std::string refusal(const std::string& type, const std::string& more) {
  try {
    parse(type, more);
  } catch (const Error& e) {
    return e.what();
  }
  return "nothing was refused";
}

}  // namespace

TEST_CASE("older and newer rope keys mean the same", "[model][config]") {
  const DecoderConfig older = parse("llama", R"(,"rope_theta":500000.0,"rope_scaling":{"type":"linear","factor":4.0})");
  const DecoderConfig newer = parse(
      "llama", R"(,"rope_parameters":{"rope_theta":500000.0,"rope_type":"linear","factor":4.0},"rope_theta":1.0)");
  CHECK(older.rope.theta == newer.rope.theta);
  CHECK(older.rope.kind == RopeScalingKind::linear);
  CHECK(newer.rope.kind == RopeScalingKind::linear);
  CHECK(newer.rope.factor == 4);
  CHECK(parse("llama", R"(,"rope_scaling":null)").rope.kind == RopeScalingKind::none);
  CHECK(parse("llama").rope.theta == 10000);
  CHECK(parse("llama", R"(,"torch_dtype":"bfloat16")").dtype == "bfloat16");
  CHECK(parse("llama", R"(,"dtype":"float16")").dtype == "float16");
}

TEST_CASE("what a family means for biases, norms and heads", "[model][config]") {
  CHECK(parse("llama").biases == BiasSettings{});
  CHECK(parse("qwen2").biases == BiasSettings{.q = true, .k = true, .v = true});
  CHECK(parse("qwen2", R"(,"attention_bias":true)").biases == BiasSettings{.q = true, .k = true, .v = true});
  const BiasSettings attention{.q = true, .k = true, .v = true, .o = true};
  CHECK(parse("llama", R"(,"attention_bias":true)").biases == attention);
  CHECK(parse("qwen3", R"(,"attention_bias":true)").biases == attention);
  CHECK(parse("llama", R"(,"mlp_bias":true)").biases == BiasSettings{.gate = true, .up = true, .down = true});
  CHECK(parse("qwen3").head_norm());
  CHECK(parse("qwen3", R"(,"head_dim":24)").head_size == 24);
  CHECK(parse("llama", R"(,"head_dim":null)").head_size == 8);
  CHECK(parse("llama", R"(,"eos_token_id":[1,2])").eos_ids == std::vector<std::int32_t>{1, 2});
  const Json by_architecture = Json::parse("{\"architectures\":[\"Qwen3ForCausalLM\"]," + base + "}", "config.json");
  CHECK(parse_hf_config(by_architecture, "config.json").family == Family::qwen3);
}

TEST_CASE("windows by layer_types, by max_window_layers, and off", "[model][config]") {
  CHECK(parse("qwen2", R"(,"sliding_window":8,"use_sliding_window":false,"max_window_layers":1)").windows.empty());
  CHECK(parse("qwen2", R"(,"sliding_window":8,"use_sliding_window":true,"max_window_layers":3)").windows ==
        std::vector<std::int64_t>{0, 0, 0, 8});
  const std::string types =
      R"(,"layer_types":["sliding_attention","full_attention","sliding_attention","full_attention"])";
  CHECK(parse("qwen3", R"(,"sliding_window":5)" + types).windows == std::vector<std::int64_t>{5, 0, 5, 0});
  CHECK_THAT(refusal("qwen3", types), contains("sliding_window must be positive"));
  CHECK_THAT(refusal("qwen3", R"(,"layer_types":["full_attention"])"),
             contains("layer_types has 1 entries for 4 layers"));
  CHECK_THAT(refusal("qwen3", R"(,"layer_types":["full_attention","x","full_attention","full_attention"])"),
             contains("layer_types[1] is \"x\""));
}

TEST_CASE("numbers of a config that do not fit are refused, not cut to 32 bits", "[model][config]") {
  // 4294967301 = 2^32 + 5, 4294967552 = 2^32 + 256.
  CHECK_THAT(refusal("llama", R"(,"eos_token_id":4294967301)"),
             contains("config.json: eos_token_id is 4294967301; a token id lies in [0, 4194303]"));
  CHECK_THAT(refusal("llama", R"(,"bos_token_id":[1,4294967301])"), contains("bos_token_id[1] is 4294967301"));
  CHECK_THAT(refusal("llama", R"(,"pad_token_id":4294967301)"), contains("pad_token_id is 4294967301"));
  CHECK_THAT(refusal("llama", R"(,"eos_token_id":18446744073709551615)"),
             contains("eos_token_id is 18446744073709551615"));
  const DecoderConfig none = parse("llama", R"(,"eos_token_id":-1,"pad_token_id":-1,"bos_token_id":[-1,3])");
  CHECK(none.eos_ids.empty());
  CHECK(none.pad_id == -1);
  CHECK(none.bos_ids == std::vector<std::int32_t>{3});
  CHECK_THAT(refusal("llama", R"(,"max_position_embeddings":4294967552)"),
             contains("max_position_embeddings is 4294967552; it must be from 0 (unknown) to 2147483647"));
  CHECK_THAT(refusal("llama", R"(,"max_position_embeddings":-1)"), contains("max_position_embeddings is -1"));
  CHECK_THAT(refusal("mistral", R"(,"sliding_window":4294967552)"), contains("sliding_window is 4294967552"));
  CHECK_THAT(refusal("llama", R"(,"rope_scaling":{"rope_type":"yarn","factor":2,)"
                              R"("original_max_position_embeddings":1e300})"),
             contains("original_max_position_embeddings is 1e+300"));
  CHECK_THAT(refusal("gemma2", R"(,"query_pre_attn_scalar":1e300)"), contains("query_pre_attn_scalar is 1e+300"));
}

TEST_CASE("configs that cannot be used are refused by key", "[model][config]") {
  CHECK_THAT(refusal("deepseek_v3", ""), contains("model_type deepseek_v3 is not supported yet"));
  CHECK_THAT(refusal("bert", ""), contains("model_type \"bert\" is unknown; llama, mistral, qwen2, qwen3, qwen3_moe, "
                                           "qwen2_moe, gpt_oss, gemma2 and gemma3_text are supported"));
  CHECK_THAT(refusal("llama", R"(,"rope_scaling":{"rope_type":"dynamic","factor":2})"),
             contains("rope_type \"dynamic\""));
  CHECK_THAT(refusal("llama", R"(,"rope_scaling":{"rope_type":"llama3","factor":2})"),
             contains("low_freq_factor is missing"));
  CHECK_THAT(refusal("llama", R"(,"hidden_act":"gelu")"), contains("hidden_act \"gelu\""));
  CHECK_THAT(refusal("llama", R"(,"quantization_config":{"quant_method":"gptq"})"), contains("quant_method \"gptq\""));
  CHECK_THAT(refusal("llama", R"(,"head_dim":7)"), contains("head_dim 7 is odd"));
  CHECK_THAT(refusal("llama", R"(,"dtype":"int8")"), contains("dtype int8"));
  const auto text = [](const std::string& json) {
    try {
      parse_hf_config(Json::parse(json, "config.json"), "config.json");
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string("nothing was refused");
  };
  CHECK_THAT(text("[1]"), contains("not a JSON object"));
  CHECK_THAT(text("{\"hidden_size\":4}"), contains("model_type is missing"));
  CHECK_THAT(text(R"({"model_type":"llama","vocab_size":"x"})"), contains("vocab_size"));
  CHECK_THAT(
      text(R"({"model_type":"llama","vocab_size":4,"hidden_size":30,"intermediate_size":4,"num_hidden_layers":1,)"
           R"("num_attention_heads":4})"),
      contains("no multiple of num_attention_heads 4"));
  CHECK_THAT(
      text(R"({"model_type":"llama","vocab_size":4,"hidden_size":32,"intermediate_size":4,"num_hidden_layers":1,)"
           R"("num_attention_heads":4,)"
           R"("num_key_value_heads":3})"),
      contains("not a multiple of num_key_value_heads 3"));
  CHECK_THAT(text(R"({"model_type":"llama","vocab_size":4,"hidden_size":32,"intermediate_size":4,)"
                  R"("num_hidden_layers":900000,"num_attention_heads":4})"),
             contains("num_hidden_layers is 900000"));
}

TEST_CASE("which layers are mixtures, and of what", "[model][config]") {
  const std::string experts = R"(,"num_experts":8,"num_experts_per_tok":2,"moe_intermediate_size":24)";
  CHECK(parse("qwen3_moe", experts).sparse == std::vector<std::uint8_t>{1, 1, 1, 1});
  CHECK(parse("qwen3_moe", experts + R"(,"decoder_sparse_step":2)").sparse == std::vector<std::uint8_t>{0, 1, 0, 1});
  CHECK(parse("qwen3_moe", experts + R"(,"mlp_only_layers":[0,3])").sparse == std::vector<std::uint8_t>{0, 1, 1, 0});
  CHECK_FALSE(parse("qwen3_moe", experts).moe.over_chosen);
  CHECK(parse("qwen3_moe", experts + R"(,"norm_topk_prob":true)").moe.over_chosen);
  CHECK(
      parse("qwen3_moe", R"(,"num_local_experts":8,"num_experts_per_tok":2,"moe_intermediate_size":24)").moe.experts ==
      8);
  CHECK(parse("qwen2_moe", experts + R"(,"shared_expert_intermediate_size":40)").moe.shared == 40);
  CHECK(parse("qwen2_moe", experts + R"(,"shared_expert_intermediate_size":40)").biases ==
        BiasSettings{.q = true, .k = true, .v = true});
  const DecoderConfig oss = parse("gpt_oss", R"(,"num_local_experts":4,"experts_per_token":2,"sliding_window":8)");
  CHECK(oss.windows == std::vector<std::int64_t>{8, 0, 8, 0});
  CHECK(oss.moe.activation.limit == 7);
  CHECK(oss.moe.activation.alpha == 1.702);
  CHECK(oss.biases == BiasSettings{.q = true, .k = true, .v = true, .o = true});
  CHECK(oss.mixtures() == 4);
}

TEST_CASE("expert settings that cannot be used are refused by key", "[model][config]") {
  const std::string few = R"(,"num_experts":8,"moe_intermediate_size":24)",
                    experts = few + R"(,"num_experts_per_tok":2)";
  CHECK_THAT(refusal("qwen3_moe", ""), contains("num_local_experts is missing"));
  CHECK_THAT(refusal("qwen3_moe", few + R"(,"num_experts_per_tok":9)"),
             contains("num_experts_per_tok 9 is above num_experts 8"));
  CHECK_THAT(refusal("qwen3_moe", few + R"(,"num_experts_per_tok":0)"), contains("num_experts_per_tok is 0"));
  CHECK_THAT(refusal("qwen3_moe", experts + R"(,"num_local_experts":4)"),
             contains("num_experts is 8, num_local_experts 4"));
  CHECK_THAT(refusal("qwen3_moe", experts + R"(,"decoder_sparse_step":0)"), contains("decoder_sparse_step is 0"));
  CHECK_THAT(refusal("qwen3_moe", experts + R"(,"mlp_only_layers":[4])"),
             contains("mlp_only_layers names layer 4 of 4"));
  CHECK_THAT(refusal("qwen2_moe", experts), contains("shared_expert_intermediate_size is missing"));
  CHECK_THAT(refusal("qwen3_moe", experts + R"(,"quantization_config":{"quant_method":"mxfp4"})"),
             contains("quant_method \"mxfp4\" is not supported for qwen3_moe"));
  CHECK_THAT(refusal("gpt_oss", R"(,"num_local_experts":4,"num_experts_per_tok":2,"sliding_window":8,)"
                                R"("quantization_config":{"quant_method":"awq"})"),
             contains("quant_method \"awq\""));
}

TEST_CASE("a config made by hand is written so that it reads back", "[model][config]") {
  for (const Family family :
       {Family::llama, Family::qwen2, Family::qwen3, Family::qwen3_moe, Family::qwen2_moe, Family::gpt_oss}) {
    DecoderConfig c = kdlib_tests::golden_config(family);
    c.bos_ids = {1};
    c.eos_ids = {2, 3};
    c.rope.kind = RopeScalingKind::yarn;
    c.rope.factor = 4;
    c.rope.original_length = 512;
    c.rope.truncate = false;
    if (family != Family::llama) c.windows = {0, 3};
    const std::string text = hf_config_text(c, "bfloat16");
    const DecoderConfig back = parse_hf_config(Json::parse(text, "config.json"), "config.json");
    CHECK(back.family == c.family);
    CHECK(back.parameter_count() == c.parameter_count());
    CHECK(back.active_parameter_count() == c.active_parameter_count());
    CHECK(back.sparse == c.sparse);
    CHECK(back.moe.over_chosen == c.moe.over_chosen);
    CHECK(back.moe.activation.limit == c.moe.activation.limit);
    CHECK(back.windows == c.windows);
    CHECK(back.eos_ids == c.eos_ids);
    CHECK(back.dtype == "bfloat16");
    CHECK(back.rope.factor == 4);
    CHECK_FALSE(back.rope.truncate);
    CHECK(back.norm_epsilon == c.norm_epsilon);
  }
}

TEST_CASE("yarn frequencies equal gpt-oss's published ones", "[model][config]") {
  RopeSettings s;  // theta 150000, factor 32, beta 32 and 1, original 4096, no truncation, 64 dimensions
  s.theta = 150000;
  s.kind = RopeScalingKind::yarn;
  s.factor = 32;
  s.original_length = 4096;
  s.truncate = false;
  const std::vector<double> f = rope_frequencies(s, 64);
  const std::pair<std::size_t, double> expected[] = {{0, 1},
                                                     {1, 0.689044306},
                                                     {8, 0.0508132748},
                                                     {9, 0.0317056962},
                                                     {10, 0.0193350011},
                                                     {15, 0.0010526021},
                                                     {17, 0.000129318701},
                                                     {18, 3.83088124e-05},
                                                     {31, 3.02351143e-07}};
  for (const auto& [i, value] : expected) CHECK(std::abs(f[i] / value - 1) < 1e-8);  // nine digits are printed
  CHECK(std::abs(rope_table_scale(s) - 1.3465735902799727) < kdlib_tests::Tolerance<double>::elementwise);
}

TEST_CASE("llama3 scaling keeps short wavelengths, slows long ones and blends between", "[model][config]") {
  RopeSettings s;
  s.kind = RopeScalingKind::llama3;
  s.theta = 500000;
  s.factor = 8;
  s.original_length = 32;
  RopeSettings plain;
  plain.theta = 500000;
  const auto f = rope_frequencies(s, 24), g = rope_frequencies(plain, 24);
  CHECK(f[0] == g[0]);                                                                 // wavelength 6.3 < 32 / 4
  CHECK(f[11] == g[11] / 8);                                                           // far above 32 / 1
  const double wavelength = detail::two_pi / g[1], blend = (32 / wavelength - 1) / 3;  // 18.8
  CHECK(std::abs(f[1] - ((1 - blend) * g[1] / 8 + blend * g[1])) < 1e-15);
}

TEST_CASE("keys that would change the function are refused by name, neutral values are not", "[model][config]") {
  struct Key {
    const char *type, *odd, *neutral;
  };
  for (const Key& k : {Key{"llama", R"("attn_logit_softcapping":50.0)", R"("attn_logit_softcapping":null)"},
                       Key{"llama", R"("final_logit_softcapping":30)", R"("final_logit_softcapping":0)"},
                       Key{"qwen2", R"("logit_scale":0.25)", R"("logit_scale":1.0)"},
                       Key{"llama", R"("logits_scaling":8.0)", R"("logits_scaling":1)"},
                       Key{"llama", R"("embedding_multiplier":12.0)", R"("embedding_multiplier":1.0)"},
                       Key{"llama", R"("residual_multiplier":0.22)", R"("residual_multiplier":1)"},
                       Key{"llama", R"("attention_multiplier":0.5)", R"("attention_multiplier":0.35355339059327373)"},
                       Key{"llama", R"("query_pre_attn_scalar":224)", R"("query_pre_attn_scalar":8)"},
                       Key{"llama", R"("partial_rotary_factor":0.5)", R"("partial_rotary_factor":1.0)"},
                       Key{"llama", R"("rotary_pct":0.25)", R"("rotary_pct":1.0)"},
                       Key{"llama", R"("rope_interleaved":true)", R"("rope_interleaved":false)"},
                       Key{"llama", R"("alibi":true)", R"("alibi":false)"},
                       Key{"llama", R"("use_parallel_residual":true)", R"("use_parallel_residual":false)"},
                       Key{"llama", R"("clip_qkv":8.0)", R"("clip_qkv":null)"},
                       Key{"llama", R"("no_rope_layers":[1,1,1,0])", R"("no_rope_layers":[])"},
                       Key{"llama", R"("qkv_bias":true)", R"("qkv_bias":false)"},
                       Key{"llama", R"("use_bias":true)", R"("use_bias":false)"},
                       Key{"qwen3", R"("mlp_bias":true)", R"("mlp_bias":false)"},
                       Key{"qwen2", R"("qkv_bias":false)", R"("qkv_bias":true)"},
                       Key{"qwen2", R"("use_qk_norm":true)", R"("use_qk_norm":false)"},
                       Key{"qwen3", R"("use_qk_norm":false)", R"("use_qk_norm":true)"},
                       Key{"llama", R"("num_local_experts":8)", R"("num_local_experts":0)"},
                       Key{"llama", R"("hidden_activation":"gelu")", R"("hidden_activation":"silu")"},
                       Key{"llama", R"("is_causal":false)", R"("is_causal":true)"},
                       Key{"llama", R"("position_embedding_type":"alibi")", R"("position_embedding_type":"rope")"},
                       Key{"qwen2", R"("rope_scaling":{"type":"default","mrope_section":[1,1,2]})",
                           R"("rope_scaling":{"type":"default"})"}}) {
    CAPTURE(k.odd);
    const std::string odd = k.odd, key = odd.substr(1, odd.find('"', 1) - 1);
    CHECK_THAT(refusal(k.type, concat(",", odd)), contains(key == "rope_scaling" ? "mrope_section" : key));
    CHECK(refusal(k.type, concat(",", k.neutral)) == "nothing was refused");
  }
  CHECK(refusal("llama", R"(,"my_own_key":3)") == "nothing was refused");
}
