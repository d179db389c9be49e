// SPDX-License-Identifier: Apache-2.0
// DecoderConfig from GGUF metadata (hf_config.hpp).
#ifndef KDLIB_MODEL_GGUF_CONFIG_INL_HPP
#define KDLIB_MODEL_GGUF_CONFIG_INL_HPP

#include "kdlib/model/hf_config.hpp"
#include "kdlib/quant/gguf_blocks.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// A count that may be one number or one a layer; they must be equal then.
inline std::int64_t gguf_count(const GgufFile& file, const std::string& key) {
  const GgufValue& value = file.at(key);
  if (!value.is_array()) return value.as_int();
  const std::vector<std::int64_t> list = value.as_ints();
  require<ConfigError>(!list.empty(), "[decoder] ", file.path(), ": ", key, " is empty");
  for (const std::int64_t n : list)
    require<ConfigError>(n == list[0], "[decoder] ", file.path(), ": ", key, " differs from layer to layer, which is not supported");
  return list[0];
}

inline RopeSettings gguf_rope(const GgufFile& file, const std::string& a, std::int64_t head_size) {
  RopeSettings rope;
  rope.theta = file.double_or(a + ".rope.freq_base", 10000.0);
  const std::string type = file.string_or(a + ".rope.scaling.type", "none");
  require<ConfigError>(type == "none" || type == "linear" || type == "yarn", "[decoder] ", file.path(), ": ", a, ".rope.scaling.type \"", type,
                       "\" is not supported; none, linear and yarn are");
  rope.kind = type == "linear" ? RopeScalingKind::linear : (type == "yarn" ? RopeScalingKind::yarn : RopeScalingKind::none);
  if (rope.kind != RopeScalingKind::none) rope.factor = file.at(a + ".rope.scaling.factor").as_double();
  if (rope.kind == RopeScalingKind::yarn) {
    rope.original_length = file.at(a + ".rope.scaling.original_context_length").as_double();
    rope.beta_fast = file.double_or(a + ".rope.scaling.yarn_beta_fast", rope.beta_fast);
    rope.beta_slow = file.double_or(a + ".rope.scaling.yarn_beta_slow", rope.beta_slow);
    rope.attention_factor = file.double_or(a + ".rope.scaling.attn_factor", 0);
  }
  require<ConfigError>(file.int_or(a + ".rope.dimension_count", head_size) == head_size, "[decoder] ", file.path(), ": ", a,
                       ".rope.dimension_count differs from the head size ", head_size, "; partial rotation is not supported");
  if (const GgufTensor* t = file.find_tensor("rope_freqs.weight")) {
    require<FormatError>(t->shape.count() == head_size / 2, "[decoder] ", file.path(), ": ", t->text(), " must have ", head_size / 2, " elements");
    rope.divisors = decode_tensor<double>(*t);
  }
  return rope;
}

}  // namespace detail

inline DecoderConfig gguf_config(const GgufFile& file) {
  const std::string a(file.at("general.architecture").as_string());
  const std::string type = file.string_or("general.type", "model");
  require<ConfigError>(type == "model", "[decoder] ", file.path(), ": general.type is \"", type, "\"; a model is needed");
  for (const char* moe : {"qwen2moe", "qwen3moe", "gpt-oss", "deepseek2"})
    require<ConfigError>(a != moe, "[decoder] ", file.path(), ": architecture ", a,
                         " (a mixture of experts) is not read from GGUF yet; llama, qwen2 and qwen3 are. Use the Hugging Face directory");
  require<ConfigError>(a == "llama" || a == "qwen2" || a == "qwen3", "[decoder] ", file.path(), ": architecture \"", a,
                       "\" is unknown; llama, qwen2 and qwen3 are supported");
  require<ConfigError>(file.int_or(a + ".expert_count", 0) == 0, "[decoder] ", file.path(), ": a mixture of experts is not supported yet");
  DecoderConfig c;
  c.family = a == "qwen2" ? Family::qwen2 : (a == "qwen3" ? Family::qwen3 : Family::llama);
  c.hidden_size = file.at(a + ".embedding_length").as_int();
  c.intermediate_size = detail::gguf_count(file, a + ".feed_forward_length");
  c.layers = file.at(a + ".block_count").as_int();
  c.query_heads = detail::gguf_count(file, a + ".attention.head_count");
  c.kv_heads = file.find(a + ".attention.head_count_kv") != nullptr ? detail::gguf_count(file, a + ".attention.head_count_kv") : c.query_heads;
  require<ConfigError>(c.query_heads > 0, "[decoder] ", file.path(), ": ", a, ".attention.head_count must be positive");
  c.head_size = file.int_or(a + ".attention.key_length", c.hidden_size / c.query_heads);
  require<ConfigError>(file.int_or(a + ".attention.value_length", c.head_size) == c.head_size, "[decoder] ", file.path(),
                       ": keys and values of different length are not supported");
  c.norm_epsilon = file.at(a + ".attention.layer_norm_rms_epsilon").as_double();
  c.context_length = file.int_or(a + ".context_length", 2048);
  c.vocab_size = file.tensor("token_embd.weight").shape[0];
  c.tied_head = file.find_tensor("output.weight") == nullptr;
  c.attention_bias = file.find_tensor("blk.0.attn_q.bias") != nullptr;
  c.output_bias = file.find_tensor("blk.0.attn_output.bias") != nullptr;
  c.mlp_bias = file.find_tensor("blk.0.ffn_down.bias") != nullptr;
  require<ConfigError>(c.family != Family::qwen2 || c.attention_bias, "[decoder] ", file.path(), ": blk.0.attn_q.bias is missing");
  const std::int64_t window = file.int_or(a + ".attention.sliding_window", 0);
  if (window > 0 && window < c.context_length)
    fail<ConfigError>("[decoder] ", file.path(), ": ", a, ".attention.sliding_window ", window,
                      " is below the context length, and the file does not say for which layers; use the Hugging Face directory");
  c.check(file.path());
  c.rope = detail::gguf_rope(file, a, c.head_size);
  for (const char* key : {"tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id"})
    if (const GgufValue* id = file.find(key)) (key[15] == 'b' ? c.bos_ids : c.eos_ids).push_back(static_cast<std::int32_t>(id->as_int()));
  c.pad_id = static_cast<std::int32_t>(file.int_or("tokenizer.ggml.padding_token_id", -1));
  c.check(file.path());
  return c;
}

KDLIB_NAMESPACE_END

#endif
