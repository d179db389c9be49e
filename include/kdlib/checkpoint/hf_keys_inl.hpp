// SPDX-License-Identifier: Apache-2.0
// Keys of config.json that would change the function and that the model does not compute: each is refused by name
// unless its value leaves the function as it is. Keys that nobody here knows are kept and written back.
#ifndef KDLIB_CHECKPOINT_HF_KEYS_INL_HPP
#define KDLIB_CHECKPOINT_HF_KEYS_INL_HPP

#include <algorithm>
#include <cmath>

#include "kdlib/checkpoint/hf_config.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Which value of a key changes nothing. null never does.
enum class Neutral : std::uint8_t {
  off,       // false, 0, "none", or an empty list or object
  one,       // the number 1
  head_size  // the number head_dim
};

struct RefusedKey {
  const char* key;
  Neutral neutral;
};

/// Of every family.
constexpr RefusedKey refused_keys[] = {
    // Logits, residuals and embeddings that are scaled or capped (Gemma, Granite, Cohere, MiniCPM).
    {"attn_logit_softcapping", Neutral::off},
    {"final_logit_softcapping", Neutral::off},
    {"attention_logit_cap", Neutral::off},
    {"logits_soft_cap", Neutral::off},
    {"logit_softcap", Neutral::off},
    {"logit_scale", Neutral::one},
    {"logits_scaling", Neutral::one},
    {"embedding_multiplier", Neutral::one},
    {"embedding_scale", Neutral::one},
    {"residual_multiplier", Neutral::one},
    {"scale_emb", Neutral::one},
    {"scale_depth", Neutral::off},
    {"dim_model_base", Neutral::off},
    {"mup_width_multiplier", Neutral::one},
    {"lm_head_multiplier", Neutral::one},
    {"key_multiplier", Neutral::one},
    {"normalize_embeddings", Neutral::off},
    // Attention of another kind.
    {"query_pre_attn_scalar", Neutral::head_size},
    {"attn_temperature_tuning", Neutral::off},
    {"attention_chunk_size", Neutral::off},
    {"clip_qkv", Neutral::off},
    {"alibi", Neutral::off},
    {"use_alibi", Neutral::off},
    {"alibi_bias_max", Neutral::off},
    {"no_rope_layers", Neutral::off},
    {"no_rope_layer_interval", Neutral::off},
    {"kv_lora_rank", Neutral::off},
    {"q_lora_rank", Neutral::off},
    {"num_kv_shared_layers", Neutral::off},
    {"cross_attention_layers", Neutral::off},
    {"add_cross_attention", Neutral::off},
    {"is_encoder_decoder", Neutral::off},
    {"use_bidirectional_attention", Neutral::off},
    {"pruned_heads", Neutral::off},
    {"global_attn_every_n_layers", Neutral::off},
    {"partial_rotary_factor", Neutral::one},
    {"rotary_pct", Neutral::one},
    {"rotary_percent", Neutral::one},
    {"rotary_dim", Neutral::head_size},
    {"rope_dim", Neutral::head_size},
    {"rope_ratio", Neutral::one},
    {"rope_interleaved", Neutral::off},
    {"rope_interleave", Neutral::off},
    {"rope_local_base_freq", Neutral::off},
    {"mrope_section", Neutral::off},
    // Blocks of another shape.
    {"parallel_residual", Neutral::off},
    {"use_parallel_residual", Neutral::off},
    {"parallel_attn", Neutral::off},
    {"apply_residual_connection_post_layernorm", Neutral::off},
    {"use_post_norm", Neutral::off},
    {"sandwich_norm", Neutral::off},
    {"layer_scale", Neutral::off},
    // Biases that no family here has.
    {"use_bias", Neutral::off},
    {"add_bias", Neutral::off},
    {"o_bias", Neutral::off},
    {"attention_out_bias", Neutral::off},
    {"lm_head_bias", Neutral::off},
    {"norm_bias", Neutral::off},
    // Experts of other mixtures.
    {"routed_scaling_factor", Neutral::one},
    {"n_group", Neutral::one},
    {"topk_group", Neutral::one},
    {"n_shared_experts", Neutral::off},
    {"num_shared_experts", Neutral::off},
    {"n_routed_experts", Neutral::off},
    {"first_k_dense_replace", Neutral::off},
    {"router_bias", Neutral::off},
    {"use_expert_bias", Neutral::off},
};

KDLIB_FUNC bool is_neutral(const Json& value, Neutral neutral, double head_size) {
  if (value.is_bool()) return neutral == Neutral::off && !value.as_bool();
  if (value.is_number()) {
    const double x = value.as_double();
    return x == (neutral == Neutral::off ? 0.0 : neutral == Neutral::one ? 1.0 : head_size);
  }
  if (value.is_string()) return value.as_string() == "none";
  return neutral == Neutral::off && value.size() == 0;
}

KDLIB_FUNC std::string value_text(const Json& value) {
  if (value.is_string()) return concat("\"", value.as_string(), "\"");
  if (value.is_bool()) return value.as_bool() ? "true" : "false";
  if (value.is_number()) return concat(value.as_double());
  return "set";
}

/// True for keys of refused_keys that a family computes.
KDLIB_FUNC bool family_computes(Family family, std::string_view key) {
  const bool second = family == Family::gemma2, third = family == Family::gemma3;
  if (key == "query_pre_attn_scalar" || key == "final_logit_softcapping") return second || third;
  if (key == "attn_logit_softcapping") return second;
  return key == "rope_local_base_freq" && third;
}

/// What only some families compute, compared with what this one does.
KDLIB_FUNC void refuse_family_keys(const Json& json, const DecoderConfig& c, const std::string& where) {
  const auto refuse = [&](bool odd, const char* key, const char* instead) {
    if (odd)
      fail<ConfigError>("[decoder] ", where, ": ", key, " is ", value_text(*json.find_set(key)), ", which model_type ",
                        family_name(c.family), " does not compute; ", instead);
  };
  const auto is_true = [&](const char* key) {
    const auto value = json.find_set(key);
    return value && value->is_bool() && value->as_bool();
  };
  refuse(c.family != Family::llama && is_true("mlp_bias"), "mlp_bias", "false is what it has");
  refuse(c.family == Family::llama && is_true("qkv_bias"), "qkv_bias", "its key is attention_bias");
  refuse(c.family == Family::llama && is_true("bias"), "bias", "its keys are attention_bias and mlp_bias");
  refuse(c.family == Family::mistral && is_true("attention_bias"), "attention_bias", "false is what it has");
  refuse(c.family == Family::qwen2 && json.find_set("qkv_bias") && !is_true("qkv_bias"), "qkv_bias",
         "q, k and v always have biases");
  for (const char* key : {"qk_norm", "use_qk_norm", "qk_layernorm"})
    if (const auto value = json.find_set(key); value && value->is_bool())
      refuse(value->as_bool() != c.head_norm(), key,
             c.head_norm() ? "its queries and keys are normalised" : "its queries and keys are not normalised");
  const bool mixture = c.family == Family::qwen3_moe || c.family == Family::qwen2_moe || c.family == Family::gpt_oss;
  for (const char* key : {"num_experts", "num_local_experts", "moe_num_experts"})
    if (const auto value = json.find_set(key); !mixture && value && value->is_number())
      refuse(value->as_double() > 1, key, "it is dense");
  if (const auto shared = json.find_set("shared_expert_intermediate_size"); shared && shared->is_number())
    refuse(c.family != Family::qwen2_moe && shared->as_double() > 0, "shared_expert_intermediate_size",
           "only qwen2_moe has a shared expert");
  if (const auto rule = json.find_set("scoring_func"))
    refuse(!rule->is_string() || rule->as_string() != "softmax", "scoring_func", "softmax is what it has");
  if (const auto causal = json.find_set("is_causal"); causal && causal->is_bool())
    refuse(!causal->as_bool(), "is_causal", "attention is causal");
  for (const char* key : {"hidden_activation", "activation_function", "mlp_act"})
    if (const auto value = json.find_set(key); !c.is_gemma() && value && value->is_string())
      refuse(value->as_string() != "silu" && value->as_string() != "swiglu", key, "silu is what it has");
  for (const char* key : {"norm_type", "normalization", "normalization_type"})
    if (const auto value = json.find_set(key); value && value->is_string())
      refuse(value->as_string() != "rmsnorm" && value->as_string() != "rms_norm" && value->as_string() != "RMSNorm",
             key, "rmsnorm is what it has");
  if (const auto kind = json.find_set("position_embedding_type"); kind && kind->is_string())
    refuse(kind->as_string() != "rope" && kind->as_string() != "rotary", "position_embedding_type",
           "rotary positions are what it has");
}

/// ConfigError naming the first key whose value would change the function.
KDLIB_FUNC void refuse_other_functions(const Json& json, const DecoderConfig& c, const std::string& where) {
  for (const RefusedKey& refused : refused_keys) {
    const auto value = json.find_set(refused.key);
    if (family_computes(c.family, refused.key)) continue;
    require<ConfigError>(!value || is_neutral(*value, refused.neutral, static_cast<double>(c.head_size)), "[decoder] ",
                         where, ": ", refused.key, " is ", value ? value_text(*value) : std::string(),
                         ", which is not supported: the model would ", "compute another function without it");
  }
  for (const char* key : {"attention_multiplier", "attention_scale", "softmax_scale"})
    if (const auto value = json.find_set(key)) {
      const double usual = c.attention_scale();
      require<ConfigError>(value->is_number() && std::abs(value->as_double() / usual - 1) < 1e-6, "[decoder] ", where,
                           ": ", key, " is ", value_text(*value), ", which is not supported; 1 / sqrt(",
                           c.query_scalar > 0 ? "query_pre_attn_scalar" : "head_dim", ") = ", usual, " is");
    }
  refuse_family_keys(json, c, where);
}

/// Keys of rope_scaling or rope_parameters that nothing here computes.
KDLIB_FUNC void refuse_rope_keys(const Json& rope, const std::string& where) {
  constexpr std::string_view known[] = {"rope_type",
                                        "type",
                                        "rope_theta",
                                        "factor",
                                        "original_max_position_embeddings",
                                        "low_freq_factor",
                                        "high_freq_factor",
                                        "beta_fast",
                                        "beta_slow",
                                        "truncate",
                                        "attention_factor",
                                        "mscale",
                                        "mscale_all_dim",
                                        "partial_rotary_factor",
                                        "finetuned"};
  for (std::size_t i = 0; i < rope.size(); ++i) {
    const std::string_view key = rope.key(i);
    require<ConfigError>(rope[i].is_null() || std::find(std::begin(known), std::end(known), key) != std::end(known),
                         "[decoder] ", where, ": ", rope.path(), ".", key, " is not supported");
  }
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
