// SPDX-License-Identifier: Apache-2.0
// Bodies of hf_config.hpp for config.json.
#ifndef KDLIB_MODEL_HF_CONFIG_INL_HPP
#define KDLIB_MODEL_HF_CONFIG_INL_HPP

#include <cmath>

#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/json_writer.hpp"
#include "kdlib/io/paths.hpp"
#include "kdlib/model/hf_config.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

constexpr const char* supported_models = "llama, qwen2 and qwen3";

/// The family of a model_type; what is known but not built yet is refused by name.
inline Family parse_family(const std::string& type, const std::string& where) {
  if (type == "llama") return Family::llama;
  if (type == "qwen2") return Family::qwen2;
  if (type == "qwen3") return Family::qwen3;
  for (const char* name : {"qwen3_moe", "qwen2_moe", "gpt_oss", "deepseek_v2", "deepseek_v3", "mixtral"})
    require<ConfigError>(type != name, "[decoder] ", where, ": model_type ", type, " (a mixture of experts) is not supported yet; ", supported_models,
                         " are");
  fail<ConfigError>("[decoder] ", where, ": model_type \"", type, "\" is unknown; ", supported_models, " are supported");
}

inline std::string model_type_of(const Json& json, const std::string& where) {
  if (const auto type = json.find_set("model_type")) return std::string(type->as_string());
  const auto list = json.find_set("architectures");
  require<ConfigError>(list && list->is_array() && list->size() > 0, "[decoder] ", where, ": model_type is missing, and architectures too");
  const std::string_view name = (*list)[0].as_string();
  for (const char* pair : {"llama\0LlamaForCausalLM", "qwen2\0Qwen2ForCausalLM", "qwen3\0Qwen3ForCausalLM"}) {
    const std::string_view type(pair);
    if (name == pair + type.size() + 1) return std::string(type);
  }
  fail<ConfigError>("[decoder] ", where, ": model_type is missing and architecture \"", name, "\" is unknown; ", supported_models, " are supported");
}

inline RopeScalingKind parse_rope_kind(const Json& json, const std::string& type, const std::string& where) {
  if (type == "default") return RopeScalingKind::none;
  if (type == "linear") return RopeScalingKind::linear;
  if (type == "llama3") return RopeScalingKind::llama3;
  if (type == "yarn") return RopeScalingKind::yarn;
  fail<ConfigError>("[decoder] ", where, ": ", json.path(), ": rope_type \"", type,
                    "\" is not supported; default, linear, llama3 and yarn are");
}

inline RopeSettings parse_rope(const Json& json, double context_length, const std::string& where) {
  RopeSettings rope;
  rope.theta = json.double_or("rope_theta", rope.theta);
  auto source = json.find_set("rope_parameters");
  if (!source) source = json.find_set("rope_scaling");
  if (!source) return rope;
  const Json& r = *source;
  require<FormatError>(r.is_object(), "[decoder] ", where, ": ", r.path(), " is not an object");
  for (const char* nested : {"full_attention", "sliding_attention"})
    require<ConfigError>(!r.contains(nested), "[decoder] ", where, ": rope_parameters by layer type are not supported");
  rope.theta = r.double_or("rope_theta", rope.theta);
  const auto type = r.find_set("rope_type") ? r.find_set("rope_type") : r.find_set("type");
  rope.kind = type ? parse_rope_kind(r, std::string(type->as_string()), where) : RopeScalingKind::none;
  require<ConfigError>(r.double_or("partial_rotary_factor", 1.0) == 1.0, "[decoder] ", where, ": partial_rotary_factor is not supported");
  if (rope.kind == RopeScalingKind::none) return rope;
  rope.factor = r.at("factor").as_double();
  rope.original_length = r.double_or("original_max_position_embeddings", rope.kind == RopeScalingKind::yarn ? context_length : 0.0);
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

/// Which layers see a window of keys: layer_types where given, else use_sliding_window with max_window_layers (Qwen).
inline std::vector<std::int64_t> parse_windows(const Json& json, const DecoderConfig& c, const std::string& where) {
  std::vector<std::int64_t> windows(static_cast<std::size_t>(c.layers), 0);
  const std::int64_t window = json.int_or("sliding_window", 0);
  bool any = false;
  if (const auto types = json.find_set("layer_types")) {
    require<ConfigError>(types->is_array() && static_cast<std::int64_t>(types->size()) == c.layers, "[decoder] ", where, ": layer_types has ",
                         types->size(), " entries for ", c.layers, " layers");
    for (std::size_t i = 0; i < windows.size(); ++i) {
      const std::string_view type = (*types)[i].as_string();
      require<ConfigError>(type == "full_attention" || type == "sliding_attention", "[decoder] ", where, ": layer_types[", i, "] is \"", type,
                           "\"; it can be full_attention or sliding_attention");
      if (type == "sliding_attention") windows[i] = window, any = true;
    }
  } else if (c.family != Family::llama && json.bool_or("use_sliding_window", false)) {
    const std::int64_t first = json.int_or("max_window_layers", 28);
    for (std::size_t i = 0; i < windows.size(); ++i)
      if (static_cast<std::int64_t>(i) >= first) windows[i] = window, any = true;
  }
  require<ConfigError>(!any || window > 0, "[decoder] ", where, ": sliding_window must be positive where layers slide");
  require<ConfigError>(!any || c.family != Family::llama, "[decoder] ", where, ": sliding windows are not supported for model_type llama");
  return any ? windows : std::vector<std::int64_t>();
}

inline std::vector<std::int32_t> parse_ids(const Json& json, const char* key) {
  std::vector<std::int32_t> ids;
  const auto value = json.find_set(key);
  if (!value) return ids;
  if (!value->is_array()) return {static_cast<std::int32_t>(value->as_int())};
  for (const Json& id : *value) ids.push_back(static_cast<std::int32_t>(id.as_int()));
  return ids;
}

inline void copy_json(const Json& v, JsonWriter& out) {
  switch (v.kind()) {
    case Json::Kind::null: out.null(); break;
    case Json::Kind::boolean: out.value(v.as_bool()); break;
    case Json::Kind::int64: out.value(v.as_int()); break;
    case Json::Kind::uint64: out.value(v.as_uint()); break;
    case Json::Kind::real: out.value(v.as_double()); break;
    case Json::Kind::string: out.value(v.as_string()); break;
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

inline void write_ids(JsonWriter& out, const char* key, const std::vector<std::int32_t>& ids) {
  if (ids.empty()) out.key(key).null();
  else if (ids.size() == 1) out.member(key, ids[0]);
  else out.member(key, ids);
}

inline void write_rope(JsonWriter& out, const RopeSettings& r) {
  out.key("rope_parameters").begin_object();
  const char* names[] = {"default", "linear", "llama3", "yarn"};
  out.member("rope_theta", r.theta).member("rope_type", names[static_cast<int>(r.kind)]);
  if (r.kind != RopeScalingKind::none) out.member("factor", r.factor);
  if (r.original_length > 0) out.member("original_max_position_embeddings", static_cast<std::int64_t>(r.original_length));
  if (r.kind == RopeScalingKind::llama3) out.member("low_freq_factor", r.low_frequency_factor).member("high_freq_factor", r.high_frequency_factor);
  if (r.kind == RopeScalingKind::yarn) {
    out.member("beta_fast", r.beta_fast).member("beta_slow", r.beta_slow).member("truncate", r.truncate);
    if (r.attention_factor > 0) out.member("attention_factor", r.attention_factor);
    if (r.mscale > 0) out.member("mscale", r.mscale);
    if (r.mscale_all > 0) out.member("mscale_all_dim", r.mscale_all);
  }
  out.end_object();
}

inline void write_new_config(JsonWriter& out, const DecoderConfig& c, const std::string& dtype) {
  const char* names[] = {"LlamaForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM"};
  out.begin_object();
  out.key("architectures").begin_array().value(names[static_cast<int>(c.family)]).end_array();
  if (c.family != Family::qwen2) out.member("attention_bias", c.attention_bias);
  out.member("attention_dropout", 0.0);
  write_ids(out, "bos_token_id", c.bos_ids);
  out.member("dtype", dtype);
  write_ids(out, "eos_token_id", c.eos_ids);
  out.member("head_dim", c.head_size).member("hidden_act", "silu").member("hidden_size", c.hidden_size);
  out.member("initializer_range", c.initializer_range).member("intermediate_size", c.intermediate_size);
  std::int64_t window = 0;
  for (const std::int64_t w : c.windows) window = w > window ? w : window;
  if (c.family != Family::llama) {
    out.key("layer_types").begin_array();
    for (std::int64_t i = 0; i < c.layers; ++i) out.value(c.window(i) > 0 ? "sliding_attention" : "full_attention");
    out.end_array();
  }
  out.member("max_position_embeddings", c.context_length);
  if (c.family == Family::llama) out.member("mlp_bias", c.mlp_bias);
  out.member("model_type", family_name(c.family)).member("num_attention_heads", c.query_heads);
  out.member("num_hidden_layers", c.layers).member("num_key_value_heads", c.kv_heads);
  if (c.pad_id >= 0) out.member("pad_token_id", c.pad_id);
  else out.key("pad_token_id").null();
  out.member("rms_norm_eps", c.norm_epsilon);
  write_rope(out, c.rope);
  if (c.family != Family::llama) {
    if (window > 0) out.member("sliding_window", window);
    else out.key("sliding_window").null();
    out.member("use_sliding_window", window > 0);
  }
  out.member("tie_word_embeddings", c.tied_head).member("torch_dtype", dtype).member("use_cache", true).member("vocab_size", c.vocab_size);
  out.end_object();
}

}  // namespace detail

inline DecoderConfig parse_hf_config(const Json& json, const std::string& where) {
  require<FormatError>(json.is_object(), "[decoder] ", where, ": the text is not a JSON object");
  DecoderConfig c;
  c.family = detail::parse_family(detail::model_type_of(json, where), where);
  if (const auto quantised = json.find_set("quantization_config"))
    fail<ConfigError>("[decoder] ", where, ": quant_method \"", quantised->string_or("quant_method", "?"),
                      "\" is not supported; load the unquantised weights");
  c.vocab_size = json.at("vocab_size").as_int();
  c.hidden_size = json.at("hidden_size").as_int();
  c.intermediate_size = json.at("intermediate_size").as_int();
  c.layers = json.at("num_hidden_layers").as_int();
  c.query_heads = json.at("num_attention_heads").as_int();
  c.kv_heads = json.int_or("num_key_value_heads", c.query_heads);
  c.head_size = json.int_or("head_dim", 0);
  if (!json.find_set("head_dim")) {
    require<ConfigError>(c.query_heads > 0 && c.hidden_size % c.query_heads == 0, "[decoder] ", where, ": hidden_size ", c.hidden_size,
                         " is no multiple of num_attention_heads ", c.query_heads, ", and head_dim is not given");
    c.head_size = c.hidden_size / c.query_heads;
  }
  const std::string act = json.string_or("hidden_act", "silu");
  require<ConfigError>(act == "silu", "[decoder] ", where, ": hidden_act \"", act, "\" is not supported; silu is");
  c.norm_epsilon = json.double_or("rms_norm_eps", 1e-6);
  c.context_length = json.int_or("max_position_embeddings", 2048);
  c.rope = detail::parse_rope(json, static_cast<double>(c.context_length), where);
  c.tied_head = json.bool_or("tie_word_embeddings", false);
  c.attention_bias = c.family == Family::qwen2 || json.bool_or("attention_bias", false);
  c.output_bias = c.family != Family::qwen2 && json.bool_or("attention_bias", false);
  c.mlp_bias = c.family == Family::llama && json.bool_or("mlp_bias", false);
  require<ConfigError>(!json.bool_or("rope_interleaved", false), "[decoder] ", where, ": rope_interleaved is not supported");
  c.initializer_range = json.double_or("initializer_range", 0.02);
  c.bos_ids = detail::parse_ids(json, "bos_token_id");
  c.eos_ids = detail::parse_ids(json, "eos_token_id");
  c.pad_id = static_cast<std::int32_t>(json.int_or("pad_token_id", -1));
  c.dtype = json.string_or("dtype", json.string_or("torch_dtype", "float32"));
  c.check(where);
  c.windows = detail::parse_windows(json, c, where);
  JsonWriter copy;
  detail::copy_json(json, copy);
  c.source_json = copy.text();
  return c;
}

inline DecoderConfig read_hf_config(const std::string& directory) {
  const std::string path = join_path(directory, "config.json");
  return parse_hf_config(Json::parse_file(path), path);
}

inline std::string hf_config_text(const DecoderConfig& config, const std::string& dtype) {
  JsonWriter out(JsonStyle{2, NonFinite::refuse});
  if (config.source_json.empty()) {
    detail::write_new_config(out, config, dtype);
    return out.text();
  }
  const Json json = Json::parse(config.source_json, "config.json");
  bool has_dtype = false;
  out.begin_object();
  for (std::size_t i = 0; i < json.size(); ++i) {
    const std::string_view key = json.key(i);
    out.key(key);
    if (key == "dtype" || key == "torch_dtype") out.value(dtype), has_dtype = true;
    else detail::copy_json(json[i], out);
  }
  if (!has_dtype) out.member("torch_dtype", dtype);
  out.end_object();
  return out.text();
}

KDLIB_NAMESPACE_END

#endif
