// SPDX-License-Identifier: Apache-2.0
// The keys of config.json that mixtures of experts have, and writing of config.json (hf_config.hpp).
#ifndef KDLIB_CHECKPOINT_HF_CONFIG_TEXT_INL_HPP
#define KDLIB_CHECKPOINT_HF_CONFIG_TEXT_INL_HPP

#include <cmath>

#include "kdlib/checkpoint/hf_compression_inl.hpp"
#include "kdlib/checkpoint/hf_config.hpp"
#include "kdlib/io/json_writer.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

KDLIB_FUNC std::vector<std::uint8_t> parse_sparse_layers(const Json& json, const DecoderConfig& c,
                                                         const std::string& where) {
  std::vector<std::uint8_t> sparse;
  if (c.layers <= 0 || c.layers > 4096) return sparse;  // check() says so
  const std::int64_t step = json.int_or("decoder_sparse_step", 1);
  require<ConfigError>(step > 0, "[decoder] ", where, ": decoder_sparse_step is ", step, "; it must be positive");
  for (std::int64_t i = 0; i < c.layers; ++i) sparse.push_back((i + 1) % step == 0 ? 1 : 0);
  if (const auto dense = json.find_set("mlp_only_layers")) {
    for (const Json& layer : *dense) {
      const std::int64_t i = layer.as_int();
      require<ConfigError>(i >= 0 && i < c.layers, "[decoder] ", where, ": mlp_only_layers names layer ", i, " of ",
                           c.layers);
      sparse[static_cast<std::size_t>(i)] = 0;
    }
  }
  return sparse;
}

/// Which layers are mixtures, and of what; left empty where none is.
KDLIB_FUNC void parse_experts(const Json& json, DecoderConfig& c, const std::string& where) {
  if (c.family != Family::qwen3_moe && c.family != Family::qwen2_moe && c.family != Family::gpt_oss) return;
  ExpertSettings& e = c.moe;
  e.experts = json.find_set("num_experts") ? json.at("num_experts").as_int() : json.at("num_local_experts").as_int();
  if (json.find_set("num_experts") && json.find_set("num_local_experts"))
    require<ConfigError>(json.at("num_local_experts").as_int() == e.experts, "[decoder] ", where, ": num_experts is ",
                         e.experts, ", num_local_experts ", json.at("num_local_experts").as_int());
  e.active = json.find_set("num_experts_per_tok") ? json.at("num_experts_per_tok").as_int()
                                                  : json.at("experts_per_token").as_int();
  if (c.family == Family::gpt_oss) {
    e.intermediate = c.intermediate_size;
    e.biases = true;
    e.router = "router";
    e.activation = {true, json.double_or("swiglu_alpha", 1.702), json.double_or("swiglu_limit", 7.0)};
    require<ConfigError>(e.activation.limit > 0, "[decoder] ", where, ": swiglu_limit must be positive");
    c.sparse.assign(static_cast<std::size_t>(c.layers > 0 && c.layers <= 4096 ? c.layers : 0), 1);
    return;
  }
  e.intermediate = json.at("moe_intermediate_size").as_int();
  e.over_chosen = json.bool_or("norm_topk_prob", false);
  if (c.family == Family::qwen2_moe) e.shared = json.at("shared_expert_intermediate_size").as_int();
  require<ConfigError>(c.family != Family::qwen2_moe || e.shared > 0, "[decoder] ", where,
                       ": shared_expert_intermediate_size must be positive");
  if (e.experts != 0) c.sparse = parse_sparse_layers(json, c, where);
}

KDLIB_FUNC void write_experts(JsonWriter& out, const DecoderConfig& c) {
  const ExpertSettings& e = c.moe;
  out.member("num_experts_per_tok", e.active);
  if (c.family == Family::gpt_oss) {
    out.member("num_local_experts", e.experts)
        .member("swiglu_alpha", e.activation.alpha)
        .member("swiglu_limit", e.activation.limit);
    return;
  }
  out.member("num_experts", e.experts)
      .member("moe_intermediate_size", e.intermediate)
      .member("norm_topk_prob", e.over_chosen);
  if (c.family == Family::qwen2_moe)
    out.member("shared_expert_intermediate_size", e.shared).member("qkv_bias", c.biases.attention());
  out.member("decoder_sparse_step", std::int64_t{1});
  out.key("mlp_only_layers").begin_array();
  for (std::int64_t i = 0; i < c.layers; ++i)
    if (!c.is_sparse(i)) out.value(i);
  out.end_array();
}

KDLIB_FUNC void copy_json(const Json& v, JsonWriter& out) {
  switch (v.kind()) {
    case Json::Kind::null:
      out.null();
      break;
    case Json::Kind::boolean:
      out.value(v.as_bool());
      break;
    case Json::Kind::int64:
      out.value(v.as_int());
      break;
    case Json::Kind::uint64:
      out.value(v.as_uint());
      break;
    case Json::Kind::real:
      out.value(v.as_double());
      break;
    case Json::Kind::string:
      out.value(v.as_string());
      break;
    case Json::Kind::array:
      out.begin_array();
      for (const Json& element : v) copy_json(element, out);
      out.end_array();
      break;
    case Json::Kind::object:
      out.begin_object();
      for (std::size_t i = 0; i < v.size(); ++i) {
        out.key(v.key(i));
        copy_json(v[i], out);
      }
      out.end_object();
      break;
  }
}

KDLIB_FUNC void write_ids(JsonWriter& out, const char* key, const std::vector<std::int32_t>& ids) {
  if (ids.empty()) out.key(key).null();
  else if (ids.size() == 1) out.member(key, ids[0]);
  else out.member(key, ids);
}

KDLIB_FUNC void write_rope(JsonWriter& out, const char* key, const RopeSettings& r) {
  out.key(key).begin_object();
  const char* names[] = {"default", "linear", "llama3", "yarn"};
  out.member("rope_theta", r.theta).member("rope_type", names[static_cast<int>(r.kind)]);
  if (r.kind != RopeScalingKind::none) out.member("factor", r.factor);
  if (r.original_length > 0)
    out.member("original_max_position_embeddings", static_cast<std::int64_t>(r.original_length));
  if (r.kind == RopeScalingKind::llama3)
    out.member("low_freq_factor", r.low_frequency_factor).member("high_freq_factor", r.high_frequency_factor);
  if (r.kind == RopeScalingKind::yarn) {
    out.member("beta_fast", r.beta_fast).member("beta_slow", r.beta_slow).member("truncate", r.truncate);
    if (r.attention_factor > 0) out.member("attention_factor", r.attention_factor);
    if (r.mscale > 0) out.member("mscale", r.mscale);
    if (r.mscale_all > 0) out.member("mscale_all_dim", r.mscale_all);
  }
  out.end_object();
}

/// What only Gemma has.
KDLIB_FUNC void write_gemma_keys(JsonWriter& out, const DecoderConfig& c) {
  const auto cap = [&](const char* key, double value) {
    if (value > 0) out.member(key, value);
    else out.key(key).null();
  };
  cap("attn_logit_softcapping", c.attention_softcap);
  cap("final_logit_softcapping", c.final_softcap);
  out.member("hidden_activation", "gelu_pytorch_tanh");
  const double scalar = c.score_divisor();
  if (scalar == std::floor(scalar)) out.member("query_pre_attn_scalar", static_cast<std::int64_t>(scalar));
  else out.member("query_pre_attn_scalar", scalar);
}

/// layer_types and sliding_window, as the family has them.
KDLIB_FUNC void write_windows(JsonWriter& out, const DecoderConfig& c) {
  const std::int64_t window = c.widest_window();
  if (c.family == Family::llama) return;
  for (std::int64_t i = 0; i < c.layers && c.family == Family::mistral; ++i)
    require<ConfigError>(c.window(i) == window, "[save_pretrained] layer ", i, " sees ", c.window(i), " keys, others ",
                         window, "; all layers of model_type mistral see the same window");
  if (c.family != Family::mistral) {
    out.key("layer_types").begin_array();
    for (std::int64_t i = 0; i < c.layers; ++i) out.value(c.window(i) > 0 ? "sliding_attention" : "full_attention");
    out.end_array();
  }
  if (window > 0) out.member("sliding_window", window);
  else if (c.is_gemma()) out.member("sliding_window", std::int64_t{4096});  // no layer slides
  else out.key("sliding_window").null();
  if (c.family != Family::gpt_oss && c.family != Family::mistral && !c.is_gemma())
    out.member("use_sliding_window", window > 0);
}

KDLIB_FUNC void write_new_config(JsonWriter& out, const DecoderConfig& c, const std::string& dtype,
                                 const std::string& quantization) {
  out.begin_object();
  out.key("architectures").begin_array().value(written_class(c, class_names[static_cast<int>(c.family)])).end_array();
  if (c.family != Family::qwen2 && c.family != Family::qwen2_moe && c.family != Family::mistral)
    out.member("attention_bias", c.biases.attention());
  out.member("attention_dropout", 0.0);
  write_ids(out, "bos_token_id", c.bos_ids);
  write_compression(out, c);
  out.member("dtype", dtype);
  write_ids(out, "eos_token_id", c.eos_ids);
  out.member("head_dim", c.head_size).member("hidden_size", c.hidden_size);
  if (c.is_gemma()) write_gemma_keys(out, c);
  else out.member("hidden_act", "silu");
  out.member("initializer_range", c.initializer_range).member("intermediate_size", c.intermediate_size);
  out.member("max_position_embeddings", c.context_length);
  if (c.family == Family::llama) out.member("mlp_bias", c.biases.feed_forward());
  out.member("model_type", written_model_type(c)).member("num_attention_heads", c.query_heads);
  out.member("num_hidden_layers", c.layers).member("num_key_value_heads", c.kv_heads);
  if (c.pad_id >= 0) out.member("pad_token_id", c.pad_id);
  else out.key("pad_token_id").null();
  if (!quantization.empty())
    copy_json(Json::parse(quantization, "quantization_config"), out.key("quantization_config"));
  out.member("rms_norm_eps", c.norm_epsilon);
  if (c.family == Family::gemma3) {
    out.key("rope_parameters").begin_object();
    write_rope(out, "full_attention", c.rope);
    write_rope(out, "sliding_attention", c.sliding_rope ? *c.sliding_rope : RopeSettings());
    out.end_object();
  } else {
    write_rope(out, "rope_parameters", c.rope);
  }
  if (c.moe.experts > 0) write_experts(out, c);
  write_windows(out, c);
  out.member("tie_word_embeddings", c.tied_head)
      .member("torch_dtype", dtype)
      .member("use_cache", true)
      .member("vocab_size", c.vocab_size);
  out.end_object();
}

KDLIB_FUNC BiasSettings hf_biases(const DecoderConfig& config) {
  const Family f = config.family;
  const bool qwen2 = f == Family::qwen2 || f == Family::qwen2_moe;
  BiasSettings b;
  b.q = b.k = b.v = f == Family::qwen2 || (f != Family::mistral && config.biases.attention());
  b.o = b.q && !qwen2;
  b.gate = b.up = b.down = f == Family::llama && config.biases.feed_forward();
  require<ConfigError>(b.q || !config.biases.attention(),
                       "[save_pretrained] the attention maps have biases, for which model_type ", family_name(f),
                       " has no place in a Hugging Face directory; save_gguf keeps them");
  require<ConfigError>(b.o || !config.biases.o, "[save_pretrained] o_proj has biases, for which model_type ",
                       family_name(f), " has no place in a Hugging Face directory; save_gguf keeps them");
  require<ConfigError>(b.gate || !config.biases.feed_forward(),
                       "[save_pretrained] the feed-forward maps have biases, for which model_type ", family_name(f),
                       " has no place in a Hugging Face directory; save_gguf keeps them");
  return b;
}

}  // namespace detail

KDLIB_FUNC std::string hf_config_text(const DecoderConfig& config, const std::string& dtype,
                                      const std::string& quantization) {
  require<ConfigError>(config.rope.divisors.empty(),
                       "[save_pretrained] the frequency divisors of the GGUF file (rope_freqs.weight) are no llama3 "
                       "scaling that config.json has keys for");
  JsonWriter out(JsonStyle{2, NonFinite::refuse});
  if (config.source_json.empty()) {
    detail::write_new_config(out, config, dtype, quantization);
    return out.text();
  }
  const Json json = Json::parse(config.source_json, "config.json");
  // Of a bias that config.json asks for and no file holds, the key would be wrong.
  const bool other_keys = detail::parse_biases(json, config.family) != detail::hf_biases(config);
  const std::string type = detail::written_model_type(config);
  const bool other_type = json.string_or("model_type", family_name(config.family)) != type;
  bool has_dtype = false, has_tie = false, has_bias = false, has_type = false;
  out.begin_object();
  for (std::size_t i = 0; i < json.size(); ++i) {
    const std::string_view key = json.key(i);
    if (key == "quantization_config") continue;  // the old one: weights are written decoded, or packed anew
    if (key == "compression_config") continue;   // written below as the experts are
    out.key(key);
    if (key == "dtype" || key == "torch_dtype") out.value(dtype), has_dtype = true;
    else if (other_keys && (key == "attention_bias" || key == "qkv_bias"))
      out.value(config.biases.attention()), has_bias = true;
    else if (other_keys && key == "mlp_bias") out.value(config.biases.feed_forward());
    else if (key == "tie_word_embeddings") out.value(config.tied_head), has_tie = true;  // untie_head() changes it
    else if (key == "model_type") out.value(type), has_type = true;
    else if (key == "architectures" && other_type)
      out.begin_array()
          .value(detail::written_class(config, detail::class_names[static_cast<int>(config.family)]))
          .end_array();
    else detail::copy_json(json[i], out);
  }
  if (!has_dtype) out.member("torch_dtype", dtype);
  if (other_keys && !has_bias)
    out.member(config.family == Family::qwen2_moe ? "qkv_bias" : "attention_bias", config.biases.attention());
  if (!has_tie) out.member("tie_word_embeddings", config.tied_head);
  if (!has_type && other_type) out.member("model_type", type);
  detail::write_compression(out, config);
  if (!quantization.empty())
    detail::copy_json(Json::parse(quantization, "quantization_config"), out.key("quantization_config"));
  out.end_object();
  return out.text();
}

KDLIB_NAMESPACE_END

#endif
