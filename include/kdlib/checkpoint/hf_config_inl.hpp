// SPDX-License-Identifier: Apache-2.0
// Reading of config.json (hf_config.hpp). Writing is in hf_config_text_inl.hpp.
#ifndef KDLIB_CHECKPOINT_HF_CONFIG_INL_HPP
#define KDLIB_CHECKPOINT_HF_CONFIG_INL_HPP

#include <algorithm>
#include <cmath>

#include "kdlib/checkpoint/hf_compression_inl.hpp"
#include "kdlib/checkpoint/hf_config.hpp"
#include "kdlib/checkpoint/hf_defaults_inl.hpp"
#include "kdlib/checkpoint/hf_keys_inl.hpp"
#include "kdlib/checkpoint/packed_format.hpp"
#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/json_writer.hpp"
#include "kdlib/io/paths.hpp"
#include "kdlib/text/tokenizer_reading.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

constexpr const char* supported_models =
    "llama, mistral, qwen2, qwen3, qwen3_moe, qwen2_moe, gpt_oss, gemma2 and gemma3_text";
constexpr const char* class_names[] = {"LlamaForCausalLM",    "Qwen2ForCausalLM",    "Qwen3ForCausalLM",
                                       "Qwen3MoeForCausalLM", "Qwen2MoeForCausalLM", "GptOssForCausalLM",
                                       "MistralForCausalLM",  "Gemma2ForCausalLM",   "Gemma3ForCausalLM"};

/// The family of a model_type; what is known but not built yet is refused by name.
KDLIB_FUNC Family parse_family(const std::string& type, const std::string& where) {
  for (const Family f : families)
    if (type == family_name(f)) return f;
  require<ConfigError>(type != "gemma3", "[decoder] ", where,
                       ": model_type gemma3 reads images, which is not supported; its text part alone is, as a "
                       "directory of model_type gemma3_text or as a GGUF file");
  for (const char* name : {"deepseek_v2", "deepseek_v3", "mixtral"})
    require<ConfigError>(type != name, "[decoder] ", where, ": model_type ", type, " is not supported yet; ",
                         supported_models, " are");
  fail<ConfigError>("[decoder] ", where, ": model_type \"", type, "\" is unknown; ", supported_models,
                    " are supported");
}

KDLIB_FUNC std::string model_type_of(const Json& json, const std::string& where) {
  if (const auto type = json.find_set("model_type")) return std::string(type->as_string());
  const auto list = json.find_set("architectures");
  require<ConfigError>(list && list->is_array() && list->size() > 0, "[decoder] ", where,
                       ": model_type is missing, and architectures too");
  const std::string_view name = (*list)[0].as_string();
  for (const Family f : families)
    if (name == class_names[static_cast<int>(f)]) return family_name(f);
  fail<ConfigError>("[decoder] ", where, ": model_type is missing and architecture \"", name, "\" is unknown; ",
                    supported_models, " are supported");
}

KDLIB_FUNC RopeScalingKind parse_rope_kind(const Json& json, const std::string& type, const std::string& where) {
  if (type == "default") return RopeScalingKind::none;
  if (type == "linear") return RopeScalingKind::linear;
  if (type == "llama3") return RopeScalingKind::llama3;
  if (type == "yarn") return RopeScalingKind::yarn;
  fail<ConfigError>("[decoder] ", where, ": ", json.path(), ": rope_type \"", type,
                    "\" is not supported; default, linear, llama3 and yarn are");
}

/// The object rope_parameters, rope_scaling or one of the former's parts, over what `rope` holds.
KDLIB_FUNC RopeSettings parse_rope_object(const Json& r, RopeSettings rope, double context_length,
                                          const std::string& where) {
  require<FormatError>(r.is_object(), "[decoder] ", where, ": ", r.path(), " is not an object");
  for (const char* nested : {"full_attention", "sliding_attention"})
    require<ConfigError>(!r.contains(nested), "[decoder] ", where, ": rope_parameters by layer type are supported for ",
                         family_name(Family::gemma3), " only");
  refuse_rope_keys(r, where);
  rope.theta = r.double_or("rope_theta", rope.theta);
  const auto type = r.find_set("rope_type") ? r.find_set("rope_type") : r.find_set("type");
  rope.kind = type ? parse_rope_kind(r, std::string(type->as_string()), where) : RopeScalingKind::none;
  require<ConfigError>(r.double_or("partial_rotary_factor", 1.0) == 1.0, "[decoder] ", where,
                       ": partial_rotary_factor is not supported");
  if (rope.kind == RopeScalingKind::none) return rope;
  rope.factor = r.at("factor").as_double();
  rope.original_length =
      r.double_or("original_max_position_embeddings", rope.kind == RopeScalingKind::yarn ? context_length : 0.0);
  if (rope.kind == RopeScalingKind::llama3) {
    rope.low_frequency_factor = r.at("low_freq_factor").as_double();
    rope.high_frequency_factor = r.at("high_freq_factor").as_double();
  }
  if (rope.kind == RopeScalingKind::yarn) {
    rope.beta_fast = r.double_or("beta_fast", rope.beta_fast);
    rope.beta_slow = r.double_or("beta_slow", rope.beta_slow);
    rope.truncate = r.bool_or("truncate", true);
    rope.attention_factor = r.double_or("attention_factor", 0);
    rope.mscale = r.double_or("mscale", 0);
    rope.mscale_all = r.double_or("mscale_all_dim", 0);
  }
  return rope;
}

KDLIB_FUNC RopeSettings parse_rope(const Json& json, double context_length, const std::string& where) {
  RopeSettings rope;
  rope.theta = json.double_or("rope_theta", rope.theta);
  auto source = json.find_set("rope_parameters");
  if (!source) source = json.find_set("rope_scaling");
  return source ? parse_rope_object(*source, rope, context_length, where) : rope;
}

/// Gemma 3: the layers that see everything and those that slide have angles of their own. Newer files have an object
/// for each; of older ones rope_theta and rope_scaling are the former's, rope_local_base_freq is the latter's.
KDLIB_FUNC void parse_two_ropes(const Json& json, DecoderConfig& c, const std::string& where) {
  const double length = static_cast<double>(c.context_length);
  RopeSettings full, sliding;
  full.theta = json.double_or("rope_theta", 1e6);
  sliding.theta = json.double_or("rope_local_base_freq", 1e4);
  if (const auto both = json.find_set("rope_parameters")) {
    require<FormatError>(both->is_object(), "[decoder] ", where, ": ", both->path(), " is not an object");
    for (std::size_t i = 0; i < both->size(); ++i)
      require<ConfigError>(both->key(i) == "full_attention" || both->key(i) == "sliding_attention", "[decoder] ", where,
                           ": ", both->path(), ".", both->key(i), " is not supported; model_type ",
                           family_name(c.family), " has an object full_attention and an object sliding_attention");
    if (const auto part = both->find_set("full_attention")) full = parse_rope_object(*part, full, length, where);
    if (const auto part = both->find_set("sliding_attention"))
      sliding = parse_rope_object(*part, sliding, length, where);
  } else if (const auto scaling = json.find_set("rope_scaling")) {
    full = parse_rope_object(*scaling, full, length, where);
  }
  c.rope = full;
  c.sliding_rope = sliding;
}

/// Which layers see a window of keys: layer_types where given, else all (Mistral), every other one from the first on
/// (gpt-oss, Gemma 2), all but every sixth (Gemma 3), or use_sliding_window with max_window_layers (Qwen).
KDLIB_FUNC std::vector<std::int64_t> parse_windows(const Json& json, const DecoderConfig& c, const std::string& where) {
  std::vector<std::int64_t> windows(static_cast<std::size_t>(c.layers), 0);
  const std::int64_t window =
      json.contains("sliding_window") ? json.int_or("sliding_window", 0) : default_window(c.family);
  bool any = false;
  if (c.family == Family::mistral) {
    require<ConfigError>(!json.find_set("layer_types"), "[decoder] ", where,
                         ": layer_types is set; all layers of model_type mistral see the same window");
    require<ConfigError>(window >= 0, "[decoder] ", where, ": sliding_window must not be negative");
    if (window > 0) std::fill(windows.begin(), windows.end(), window);
    return window > 0 ? windows : std::vector<std::int64_t>();
  }
  if (const auto types = json.find_set("layer_types")) {
    require<ConfigError>(types->is_array() && static_cast<std::int64_t>(types->size()) == c.layers, "[decoder] ", where,
                         ": layer_types has ", types->size(), " entries for ", c.layers, " layers");
    for (std::size_t i = 0; i < windows.size(); ++i) {
      const std::string_view type = (*types)[i].as_string();
      require<ConfigError>(type == "full_attention" || type == "sliding_attention", "[decoder] ", where,
                           ": layer_types[", i, "] is \"", type, "\"; it can be full_attention or sliding_attention");
      if (type == "sliding_attention") windows[i] = window, any = true;
    }
  } else if (c.family == Family::gpt_oss || c.is_gemma()) {
    const std::int64_t period = c.family == Family::gemma3 ? json.int_or("sliding_window_pattern", 6) : 2;
    require<ConfigError>(period > 0, "[decoder] ", where, ": sliding_window_pattern must be positive");
    for (std::size_t i = 0; i < windows.size(); ++i)
      if ((static_cast<std::int64_t>(i) + 1) % period != 0) windows[i] = window, any = true;
  } else if (c.family != Family::llama && json.bool_or("use_sliding_window", false)) {
    const std::int64_t first = json.int_or("max_window_layers", 28);
    for (std::size_t i = 0; i < windows.size(); ++i)
      if (static_cast<std::int64_t>(i) >= first) windows[i] = window, any = true;
  }
  require<ConfigError>(!any || window > 0, "[decoder] ", where, ": sliding_window must be positive where layers slide");
  require<ConfigError>(!any || c.family != Family::llama, "[decoder] ", where,
                       ": sliding windows are not supported for model_type llama");
  return any ? windows : std::vector<std::int64_t>();
}

/// `otherwise`: the family's default where the key is missing; negative: none. A negative id in the file is none, too.
KDLIB_FUNC std::vector<std::int32_t> parse_ids(const Json& json, const char* key, std::int32_t otherwise) {
  std::vector<std::int32_t> ids;
  const auto value = json.find_set(key);
  if (!value && !json.contains(key) && otherwise >= 0) return {otherwise};
  if (!value) return ids;
  const auto add = [&ids](const Json& id) {
    if (id.kind() != Json::Kind::int64 || id.as_int() >= 0) ids.push_back(read_token_id(id));
  };
  if (!value->is_array()) add(*value);
  else
    for (const Json& id : *value) add(id);
  return ids;
}

/// The biases that the keys of a family ask for. plan_load() leaves out those that the files do not hold.
KDLIB_FUNC BiasSettings parse_biases(const Json& json, Family family) {
  BiasSettings b;
  if (family == Family::mistral) return b;
  const bool qkv = family == Family::qwen2
                       ? true
                       : (family == Family::qwen2_moe ? json.bool_or("qkv_bias", true)
                                                      : json.bool_or("attention_bias", family == Family::gpt_oss));
  b.q = b.k = b.v = qkv;
  b.o = qkv && family != Family::qwen2 && family != Family::qwen2_moe;
  b.gate = b.up = b.down = family == Family::llama && json.bool_or("mlp_bias", false);
  return b;
}

/// Which layers are mixtures, and of what; left empty where none is.
void parse_experts(const Json& json, DecoderConfig& c, const std::string& where);
}  // namespace detail

KDLIB_FUNC DecoderConfig parse_hf_config(const Json& json, const std::string& where) {
  require<FormatError>(json.is_object(), "[decoder] ", where, ": the text is not a JSON object");
  DecoderConfig c;
  const std::string type = detail::model_type_of(json, where);
  c.family = detail::parse_family(detail::plain_model_type(type), where);
  const auto quantised = json.find_set("quantization_config");
  const bool packed = quantised && parse_packed_format(*quantised, where).has_value();
  if (quantised && !packed) {
    const std::string method = quantised->string_or("quant_method", "?");
    require<ConfigError>(method == "mxfp4" && c.family == Family::gpt_oss, "[decoder] ", where, ": quant_method \"",
                         method, "\" is not supported for ", family_name(c.family),
                         "; mxfp4 experts of gpt_oss are, and bitsandbytes (nf4, fp4), torchao (Int4Tensor) and kdlib "
                         "of dense models, else load the unquantised weights");
  }
  c.vocab_size = json.at("vocab_size").as_int();
  c.hidden_size = json.at("hidden_size").as_int();
  c.intermediate_size = json.at("intermediate_size").as_int();
  c.layers = json.at("num_hidden_layers").as_int();
  c.query_heads = json.at("num_attention_heads").as_int();
  c.kv_heads = json.int_or("num_key_value_heads", c.query_heads);
  c.head_size = json.int_or("head_dim", c.is_gemma() ? 256 : 0);
  if (c.head_size == 0 && !json.find_set("head_dim")) {
    require<ConfigError>(c.query_heads > 0 && c.hidden_size % c.query_heads == 0, "[decoder] ", where, ": hidden_size ",
                         c.hidden_size, " is no multiple of num_attention_heads ", c.query_heads,
                         ", and head_dim is not given");
    c.head_size = c.hidden_size / c.query_heads;
  }
  detail::check_activation(json, c.family, where);
  c.norm_epsilon = json.double_or("rms_norm_eps", 1e-6);
  c.context_length = json.int_or("max_position_embeddings", detail::default_length(c.family));
  if (c.family == Family::gemma3) detail::parse_two_ropes(json, c, where);
  else c.rope = detail::parse_rope(json, static_cast<double>(c.context_length), where);
  c.tied_head = json.bool_or("tie_word_embeddings", c.is_gemma());
  if (c.is_gemma()) detail::parse_gemma(json, c, where);
  c.biases = detail::parse_biases(json, c.family);
  detail::refuse_other_functions(json, c, where);
  c.initializer_range = json.double_or("initializer_range", 0.02);
  c.bos_ids = detail::parse_ids(json, "bos_token_id", c.is_gemma() ? 2 : c.family == Family::mistral ? 1 : -1);
  c.eos_ids = detail::parse_ids(json, "eos_token_id", c.is_gemma() ? 1 : c.family == Family::mistral ? 2 : -1);
  const auto pad = detail::parse_ids(json, "pad_token_id", c.is_gemma() ? 0 : -1);
  c.pad_id = pad.empty() ? -1 : pad.front();
  c.dtype = json.string_or("dtype", json.string_or("torch_dtype", "float32"));
  detail::parse_experts(json, c, where);
  detail::parse_compression(json, type, c, where);
  c.check(where);
  require<ConfigError>(!packed || c.mixtures() == 0, "[decoder] ", where, ": quant_method \"",
                       packed ? quantised->string_or("quant_method", "?") : "",
                       "\" is read for dense models; mixtures of experts (", family_name(c.family), ") are not");
  c.windows = detail::parse_windows(json, c, where);
  if (c.windows.empty()) c.sliding_rope.reset();
  c.check(where);
  JsonWriter copy;
  detail::copy_json(json, copy);
  c.source_json = copy.text();
  return c;
}

KDLIB_FUNC DecoderConfig read_hf_config(const std::string& directory) {
  const std::string path = join_path(directory, "config.json");
  return parse_hf_config(Json::parse_file(path), path);
}

KDLIB_NAMESPACE_END

#endif
