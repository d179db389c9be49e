// SPDX-License-Identifier: Apache-2.0
// DecoderConfig from GGUF metadata (hf_config.hpp).
#ifndef KDLIB_CHECKPOINT_GGUF_CONFIG_INL_HPP
#define KDLIB_CHECKPOINT_GGUF_CONFIG_INL_HPP

#include <charconv>
#include <cmath>

#include "kdlib/checkpoint/gguf_keys_inl.hpp"
#include "kdlib/checkpoint/gguf_names.hpp"
#include "kdlib/checkpoint/hf_config.hpp"
#include "kdlib/quant/gguf_blocks.hpp"
#include "kdlib/text/vocabulary.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// A count that may be one number or one a layer; they must be equal then.
KDLIB_FUNC std::int64_t gguf_count(const GgufFile& file, const std::string& key) {
  const GgufValue& value = file.at(key);
  if (!value.is_array()) return value.as_int();
  const std::vector<std::int64_t> list = value.as_ints();
  require<ConfigError>(!list.empty(), "[decoder] ", file.path(), ": ", key, " is empty");
  for (const std::int64_t n : list)
    require<ConfigError>(n == list[0], "[decoder] ", file.path(), ": ", key,
                         " differs from layer to layer, which is not supported");
  return list[0];
}

KDLIB_FUNC std::int32_t gguf_token_id(const GgufFile& file, const GgufValue& value) {
  const std::uint64_t id = value.as_uint();
  require<FormatError>(id <= static_cast<std::uint64_t>(Vocabulary::max_id), "[decoder] ", file.path(), ": ",
                       value.key(), " is ", id, "; a token id lies in [0, ", Vocabulary::max_id, "]");
  return static_cast<std::int32_t>(id);
}

/// A number of the metadata; of a float the shortest decimal that is stored as it, so that 1e-5 is 1e-5 again.
KDLIB_FUNC double gguf_real(const GgufValue& value) {
  const double x = value.as_double();
  if (value.kind() != GgufValue::Kind::f32) return x;
  char text[32];
  const auto end = std::to_chars(text, text + sizeof text, static_cast<float>(x));
  double shortest = x;
  std::from_chars(text, end.ptr, shortest);
  return shortest;
}
KDLIB_FUNC double gguf_real_or(const GgufFile& file, const std::string& key, double otherwise) {
  const GgufValue* value = file.find(key);
  return value == nullptr ? otherwise : gguf_real(*value);
}

/// Divisors that are a llama3 scaling become one again (factor: the largest; bounds 1 and 4, as every published model
/// has them).
KDLIB_FUNC void recognise_llama3(RopeSettings& rope, std::int64_t head_size) {
  RopeSettings plain = rope;
  plain.divisors.clear();
  const std::vector<double> base = rope_frequencies(plain, head_size);
  RopeSettings trial = plain;
  trial.kind = RopeScalingKind::llama3;
  for (const double d : rope.divisors) trial.factor = d > trial.factor ? d : trial.factor;
  for (trial.original_length = 32; trial.original_length <= 1 << 20; trial.original_length *= 2) {
    const std::vector<double> scaled = rope_frequencies(trial, head_size);
    bool equal = true;
    for (std::size_t j = 0; j < base.size(); ++j)
      equal = equal && std::abs(base[j] / scaled[j] / rope.divisors[j] - 1) < 1e-5;
    if (!equal) continue;
    rope = trial;
    return;
  }
}

KDLIB_FUNC RopeSettings gguf_rope(const GgufFile& file, const std::string& a, std::int64_t head_size) {
  RopeSettings rope;
  rope.theta = gguf_real_or(file, a + ".rope.freq_base", 10000.0);
  // Files from before rope.scaling have the factor of linear scaling in rope.scale_linear, which counts where there is
  // no rope.scaling.factor; a factor of 0 is none.
  const std::string newer = a + ".rope.scaling.factor", named = file.find(newer) ? newer : a + ".rope.scale_linear";
  const double factor = gguf_real_or(file, named, 0);
  require<ConfigError>(std::isfinite(factor) && factor >= 0, "[decoder] ", file.path(), ": ", named, " is ", factor,
                       "; it must be a number from 1 on, or 0 for none");
  const std::string type = file.string_or(a + ".rope.scaling.type", factor > 0 && factor != 1 ? "linear" : "none");
  require<ConfigError>(type == "none" || type == "linear" || type == "yarn", "[decoder] ", file.path(), ": ", a,
                       ".rope.scaling.type \"", type, "\" is not supported; none, linear and yarn are");
  rope.kind =
      type == "linear" ? RopeScalingKind::linear : (type == "yarn" ? RopeScalingKind::yarn : RopeScalingKind::none);
  if (rope.kind == RopeScalingKind::linear && (factor == 0 || factor == 1)) rope.kind = RopeScalingKind::none;
  if (rope.kind == RopeScalingKind::yarn && factor == 0) (void)file.at(a + ".rope.scaling.factor");  // names the key
  if (rope.kind != RopeScalingKind::none) rope.factor = factor;
  if (rope.kind == RopeScalingKind::yarn) {
    rope.original_length = file.at(a + ".rope.scaling.original_context_length").as_double();
    rope.beta_fast = gguf_real_or(file, a + ".rope.scaling.yarn_beta_fast", rope.beta_fast);
    rope.beta_slow = gguf_real_or(file, a + ".rope.scaling.yarn_beta_slow", rope.beta_slow);
    rope.truncate = a != "gpt-oss";  // the format has no key; gpt-oss was made without
    const double ext = gguf_real_or(file, a + ".rope.scaling.yarn_ext_factor", 1),
                 log_multiplier = gguf_real_or(file, a + ".rope.scaling.yarn_log_multiplier", 0);
    require<ConfigError>(ext == 1 || ext < 0, "[decoder] ", file.path(), ": ", a, ".rope.scaling.yarn_ext_factor is ",
                         ext, ", which is not supported; 1 is");
    require<ConfigError>(log_multiplier == 0, "[decoder] ", file.path(), ": ", a,
                         ".rope.scaling.yarn_log_multiplier is ", log_multiplier, ", which is not supported; 0 is");
    const double more = gguf_real_or(file, a + ".rope.scaling.attn_factor", 1) *  // of what yarn itself multiplies by
                        gguf_real_or(file, a + ".rope.scaling.yarn_attn_factor", 1);
    if (more != 1) rope.attention_factor = more * rope_table_scale(rope);
  }
  const double sliding_theta = gguf_real_or(file, a + ".rope.freq_base_swa", rope.theta);
  require<ConfigError>(
      a == "gemma3" || sliding_theta == rope.theta || file.find(a + ".attention.sliding_window") == nullptr,
      "[decoder] ", file.path(), ": ", a, ".rope.freq_base_swa is ", sliding_theta,
      ", another base than that of full attention (", rope.theta, "), which is not supported");
  require<ConfigError>(file.int_or(a + ".rope.dimension_count", head_size) == head_size, "[decoder] ", file.path(),
                       ": ", a, ".rope.dimension_count differs from the head size ", head_size,
                       "; partial rotation is not supported");
  if (const GgufTensor* t = file.find_tensor("rope_freqs.weight")) {
    require<FormatError>(t->shape.count() == head_size / 2, "[decoder] ", file.path_of(*t), ": ", t->text(),
                         " must have ", head_size / 2, " elements");
    rope.divisors = decode_tensor<double>(*t);
    for (const double d : rope.divisors)
      require<FormatError>(d > 0 && std::isfinite(d), "[decoder] ", file.path_of(*t), ": ", t->text(), " holds ", d,
                           "; divisors are positive");
    if (rope.kind == RopeScalingKind::none) recognise_llama3(rope, head_size);
  }
  return rope;
}

/// The period of layers of which the last sees all keys, where the file has no sliding_window_pattern; 0: unknown.
KDLIB_FUNC std::int64_t gguf_window_period(Family family) {
  if (family == Family::gpt_oss || family == Family::gemma2) return 2;
  return family == Family::gemma3 ? 6 : 0;
}

/// Layers that see a window: `sliding_window_pattern` (a flag a layer, or a period whose last layer sees all), else
/// every other layer of gpt-oss and Gemma 2 from the first on, all but every sixth of Gemma 3. Of other architectures
/// the file does not say which.
KDLIB_FUNC std::vector<std::int64_t> gguf_windows(const GgufFile& file, const std::string& a, const DecoderConfig& c) {
  const std::string key = a + ".attention.sliding_window", pattern_key = key + "_pattern";
  const std::int64_t window = c.family == Family::gpt_oss ? file.at(key).as_int()
                                                          : file.int_or(key, c.family == Family::gemma2 ? 4096 : 0),
                     usual = gguf_window_period(c.family);
  require<ConfigError>(window >= 0, "[decoder] ", file.path(), ": ", key, " is ", window, "; it must not be negative");
  const GgufValue* pattern = file.find(pattern_key);
  if (window == 0 || (pattern == nullptr && usual == 0 && window >= c.context_length)) return {};
  require<ConfigError>(
      pattern != nullptr || usual > 0, "[decoder] ", file.path(), ": ", key, " ", window,
      " is below the context length, and the file does not say for which layers; use the Hugging Face directory");
  std::vector<std::int64_t> windows(static_cast<std::size_t>(c.layers), 0);
  if (pattern != nullptr && pattern->is_array()) {
    const std::vector<bool> flags = pattern->as_bools();
    require<ConfigError>(flags.size() == windows.size(), "[decoder] ", file.path(), ": ", pattern_key, " has ",
                         flags.size(), " flags for ", c.layers, " layers");
    for (std::size_t i = 0; i < windows.size(); ++i) windows[i] = flags[i] ? window : 0;
    return windows;
  }
  const std::int64_t period = pattern != nullptr ? pattern->as_int() : usual;
  require<ConfigError>(period >= 0, "[decoder] ", file.path(), ": ", pattern_key, " is ", period,
                       "; it must not be negative");
  for (std::int64_t i = 0; i < c.layers; ++i)
    windows[static_cast<std::size_t>(i)] = period == 0 || i % period < period - 1 ? window : 0;
  return windows;
}

/// What the mixtures are made of, and which layers they are: those with a router.
KDLIB_FUNC void gguf_experts(const GgufFile& file, const std::string& a, DecoderConfig& c) {
  ExpertSettings& e = c.moe;
  e.experts = file.at(a + ".expert_count").as_int();
  e.active = file.at(a + ".expert_used_count").as_int();
  for (std::int64_t i = 0; i < c.layers; ++i)
    c.sparse.push_back(
        c.family == Family::gpt_oss || file.find_tensor(concat("blk.", i, ".ffn_gate_inp.weight")) != nullptr ? 1 : 0);
  const std::int64_t scale_rule =
      file.int_or(a + ".expert_gating_func", 0);  // 1 softmax, 2 sigmoid, 3 softmax over the chosen
  require<ConfigError>(scale_rule == 0 || scale_rule == (c.family == Family::gpt_oss ? 3 : 1), "[decoder] ",
                       file.path(), ": ", a, ".expert_gating_func ", scale_rule,
                       " is not what models of this architecture do");
  const double scale = file.double_or(a + ".expert_weights_scale", 1);
  require<ConfigError>(scale == 0 || scale == 1, "[decoder] ", file.path(), ": ", a, ".expert_weights_scale ", scale,
                       " is not supported; 1 is");
  for (const char* key : {".expert_shared_count", ".expert_group_count"})
    require<ConfigError>(file.int_or(a + key, 0) <= 1, "[decoder] ", file.path(), ": ", a, key,
                         " above 1 is not supported");
  const auto width = [&](const char* key, const char* tensor) {
    if (const GgufValue* value = file.find(a + key)) return value->as_int();
    for (std::int64_t i = 0; i < c.layers; ++i)
      if (const GgufTensor* t = file.find_tensor(concat("blk.", i, tensor)))
        return t->shape[t->shape.rank() > 1 ? t->shape.rank() - 2 : 0];
    return file.at(a + key).as_int();  // names the key
  };
  e.intermediate = width(".expert_feed_forward_length", ".ffn_gate_exps.weight");
  if (c.family == Family::qwen2_moe) e.shared = width(".expert_shared_feed_forward_length", ".ffn_gate_shexp.weight");
  e.over_chosen = file.bool_or(a + ".expert_weights_norm", c.family != Family::qwen2_moe);
  if (c.family != Family::gpt_oss) return;
  e.over_chosen = e.biases = true;
  e.router = "router";
  e.activation = {true, 1.702, 7.0};
}

KDLIB_FUNC Family gguf_family(const GgufFile& file, const std::string& a) {
  for (const Family f : families)
    if (a == gguf_architecture(f)) return f;
  fail<ConfigError>("[decoder] ", file.path(), ": architecture \"", a,
                    "\" is not supported; llama, qwen2, qwen3, qwen2moe, qwen3moe, gpt-oss, gemma2 and gemma3 are");
}

/// The scale of the scores, for which the metadata have no key: readers know the models of 27 billion parameters by
/// their number of layers and take the width of a head's share of the hidden states there, else the head's size.
KDLIB_FUNC double gguf_query_scalar(const DecoderConfig& c) {
  const bool largest = c.layers == (c.family == Family::gemma2 ? 46 : 62);
  return static_cast<double>(largest ? c.hidden_size / c.query_heads : c.head_size);
}

KDLIB_FUNC void gguf_gemma(const GgufFile& file, const std::string& a, DecoderConfig& c) {
  const bool second = c.family == Family::gemma2;
  c.query_scalar = gguf_query_scalar(c);
  c.final_softcap = gguf_real_or(file, a + ".final_logit_softcapping", second ? 30 : 0);
  if (second) c.attention_softcap = gguf_real_or(file, a + ".attn_logit_softcapping", 50);
}

/// The biases that the file holds in at least one layer. The metadata have no keys for biases.
KDLIB_FUNC BiasSettings gguf_biases(const GgufFile& file, std::int64_t layers) {
  const auto held = [&](const char* name) {
    for (std::int64_t i = 0; i < layers; ++i)
      if (file.find_tensor(concat("blk.", i, ".", name, ".bias")) != nullptr) return true;
    return false;
  };
  return {held("attn_q"),   held("attn_k"), held("attn_v"),  held("attn_output"),
          held("ffn_gate"), held("ffn_up"), held("ffn_down")};
}

KDLIB_FUNC bool gguf_is_mixture(Family family) {
  return family == Family::qwen2_moe || family == Family::qwen3_moe || family == Family::gpt_oss;
}

}  // namespace detail

KDLIB_FUNC DecoderConfig gguf_config(const GgufFile& file) {
  const std::string a(file.at("general.architecture").as_string());
  const std::string type = file.string_or("general.type", "model");
  require<ConfigError>(type == "model", "[decoder] ", file.path(), ": general.type is \"", type,
                       "\"; a model is needed");
  DecoderConfig c;
  c.family = detail::gguf_family(file, a);
  const bool mixture = detail::gguf_is_mixture(c.family);
  require<ConfigError>(mixture || file.int_or(a + ".expert_count", 0) == 0, "[decoder] ", file.path(), ": ", a,
                       ".expert_count: a mixture of experts of architecture ", a,
                       " is not supported; qwen2moe, qwen3moe and gpt-oss are");
  c.hidden_size = file.at(a + ".embedding_length").as_int();
  c.layers = file.at(a + ".block_count").as_int();
  require<ConfigError>(c.layers > 0 && c.layers <= 4096, "[decoder] ", file.path(), ": ", a, ".block_count is ",
                       c.layers, "; it must be from 1 to 4096");
  if (mixture) detail::gguf_experts(file, a, c);
  c.intermediate_size = mixture && file.find(a + ".feed_forward_length") == nullptr
                            ? c.moe.intermediate
                            : detail::gguf_count(file, a + ".feed_forward_length");
  c.query_heads = detail::gguf_count(file, a + ".attention.head_count");
  c.kv_heads = file.find(a + ".attention.head_count_kv") != nullptr
                   ? detail::gguf_count(file, a + ".attention.head_count_kv")
                   : c.query_heads;
  require<ConfigError>(c.query_heads > 0, "[decoder] ", file.path(), ": ", a, ".attention.head_count must be positive");
  c.head_size = file.int_or(a + ".attention.key_length", c.hidden_size / c.query_heads);
  require<ConfigError>(file.int_or(a + ".attention.value_length", c.head_size) == c.head_size, "[decoder] ",
                       file.path(), ": keys and values of different length are not supported");
  c.norm_epsilon = detail::gguf_real(file.at(a + ".attention.layer_norm_rms_epsilon"));
  c.context_length = file.int_or(a + ".context_length", 2048);
  c.vocab_size = file.tensor("token_embd.weight").shape[0];
  c.tied_head = file.find_tensor("output.weight") == nullptr;
  c.biases = detail::gguf_biases(file, c.layers);
  if (c.is_gemma()) detail::gguf_gemma(file, a, c);
  c.check(file.path());
  detail::refuse_gguf_keys(file, a, c);
  c.windows = detail::gguf_windows(file, a, c);
  c.rope = detail::gguf_rope(file, a, c.head_size);
  if (c.family == Family::gemma3 && !c.windows.empty()) {
    c.sliding_rope.emplace();
    c.sliding_rope->theta = detail::gguf_real_or(file, a + ".rope.freq_base_swa", 10000);
  }
  for (const char* key : {"tokenizer.ggml.bos_token_id", "tokenizer.ggml.eos_token_id"})
    if (const GgufValue* id = file.find(key))
      (key[15] == 'b' ? c.bos_ids : c.eos_ids).push_back(detail::gguf_token_id(file, *id));
  if (const GgufValue* id = file.find("tokenizer.ggml.padding_token_id")) c.pad_id = detail::gguf_token_id(file, *id);
  c.check(file.path());
  return c;
}

KDLIB_NAMESPACE_END

#endif
