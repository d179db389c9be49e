// SPDX-License-Identifier: Apache-2.0
// What PEFT's adapter_config.json says (peft_parts.hpp).
#ifndef KDLIB_CHECKPOINT_PEFT_CONFIG_INL_HPP
#define KDLIB_CHECKPOINT_PEFT_CONFIG_INL_HPP

#include <algorithm>
#include <cmath>
#include <limits>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kdlib/checkpoint/peft_parts.hpp"
#include "kdlib/core/error.hpp"
#include "kdlib/io/json.hpp"
#include "kdlib/io/paths.hpp"
#include "kdlib/io/utf8.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Kinds of adapters that nothing here computes are refused by the key that says so.
KDLIB_FUNC void refuse_other_adapters(const Json& json, const std::string& where) {
  const std::string type = json.string_or("peft_type", "");
  require<ConfigError>(type == "LORA", where, ": peft_type is \"", type, "\"; LORA is supported");
  for (const char* key : {"fan_in_fan_out", "use_qalora", "ensure_weight_tying", "use_bdlora"})
    require<ConfigError>(!json.bool_or(key, false), where, ": ", key, " true is not supported");
  for (const char* key : {"layer_replication", "alora_invocation_tokens", "trainable_token_indices", "arrow_config",
                          "megatron_config", "kasa_config", "lora_ga_config", "monteclora_config", "velora_config"}) {
    const auto value = json.find_set(key);
    const bool unset = !value || (value->is_bool() && !value->as_bool()) ||
                       ((value->is_array() || value->is_object()) && value->size() == 0);
    require<ConfigError>(unset, where, ": ", key, " (set) is not supported");
  }
}

/// Keys that PEFT's LoraConfig (0.21) does not have: it ignores them, too.
KDLIB_FUNC void note_unknown_keys(const Json& json, const std::string& where, std::vector<std::string>& notes) {
  constexpr std::string_view known =
      " alora_invocation_tokens alpha_pattern arrow_config auto_mapping base_model_name_or_path bias corda_config "
      "ensure_weight_tying eva_config exclude_modules fan_in_fan_out inference_mode init_lora_weights kasa_config "
      "layer_replication layers_pattern layers_to_transform loftq_config lora_alpha lora_bias lora_dropout "
      "lora_ga_config megatron_config megatron_core modules_to_save monteclora_config peft_type peft_version "
      "qalora_group_size r rank_pattern revision runtime_config target_modules target_parameters task_type "
      "trainable_token_indices use_bdlora use_dora use_qalora use_rslora velora_config ";
  for (const JsonMember& member : json.members())
    if (known.find(concat(" ", member.key, " ")) == std::string_view::npos)
      notes.push_back(concat(where, ": the key ", printable(member.key), " is unknown and ignored"));
}

KDLIB_FUNC void note_unmatched_patterns(const PeftAdapter& adapter, const std::vector<std::string>& paths,
                                        std::vector<std::string>& notes) {
  const auto look = [&](const char* key, const auto& patterns) {
    for (const auto& pattern : patterns) {
      const bool fits = std::any_of(paths.begin(), paths.end(),
                                    [&](const std::string& path) { return fits_pattern(pattern.first, path); });
      if (!fits)
        notes.push_back(concat(adapter.where, ": ", key, " \"", printable(pattern.first),
                               "\" fits no module of the adapter and changes nothing"));
    }
  };
  look("rank_pattern", adapter.lora.rank_pattern);
  look("alpha_pattern", adapter.lora.alpha_pattern);
}

KDLIB_FUNC void require_trainable(const PeftAdapter& a) {
  const auto refuse = [&](bool set, std::string_view what) {
    require<ConfigError>(!set, a.where, ": ", what,
                         " is read for merging only, not for training: apply_adapter(model, directory) does that");
  };
  refuse(a.bias != "none", concat("bias \"", a.bias, "\" (trained biases)"));
  refuse(a.dora, "use_dora true");
  refuse(a.lora_bias, "lora_bias true");
  refuse(!a.saved_modules.empty(), "modules_to_save (set)");
}

KDLIB_FUNC std::vector<std::string> json_strings(const std::optional<Json>& value) {
  std::vector<std::string> list;
  if (!value) return list;
  if (value->is_string()) return {std::string(value->as_string())};
  for (const Json& element : *value) list.emplace_back(element.as_string());
  return list;
}

KDLIB_FUNC ModuleChoice parse_choice(const Json& json, const char* key) {
  const auto value = json.find_set(key);
  if (!value) return {};
  if (!value->is_string()) return ModuleChoice(json_strings(value));
  const std::string text(value->as_string());
  return text == "all-linear" ? ModuleChoice::all_linear() : ModuleChoice::matching(text);
}

/// A number that float32, in which adapters are computed, can hold.
KDLIB_FUNC double float_number(const Json& json) {
  const double value = json.as_double();
  if (!(std::abs(value) <= double{std::numeric_limits<float>::max()})) json.refuse("is beyond the range of float32");
  return value;
}

KDLIB_FUNC LoraSettings parse_lora_settings(const Json& json) {
  LoraSettings s;
  s.rank = json.int_or("r", 8);
  if (const auto alpha = json.find_set("lora_alpha")) s.alpha = float_number(*alpha);
  else s.alpha = 8;
  s.rslora = json.bool_or("use_rslora", false);
  s.targets = parse_choice(json, "target_modules");
  s.exclude = parse_choice(json, "exclude_modules");
  if (const auto layers = json.find_set("layers_to_transform")) {
    if (layers->is_array())
      for (const Json& i : *layers) s.layers.push_back(i.as_int());
    else s.layers.push_back(layers->as_int());
  }
  s.layer_lists = json_strings(json.find_set("layers_pattern"));
  if (const auto ranks = json.find_set("rank_pattern"))
    for (const auto& [key, value] : ranks->members()) s.rank_pattern.emplace_back(key, value.as_int());
  if (const auto alphas = json.find_set("alpha_pattern"))
    for (const auto& [key, value] : alphas->members()) s.alpha_pattern.emplace_back(key, float_number(value));
  return s;
}

KDLIB_FUNC PeftAdapter parse_adapter_config(const Json& json, std::string where, bool mixture,
                                            std::vector<std::string>& notes) {
  PeftAdapter a;
  a.where = std::move(where);
  require<FormatError>(json.is_object(), a.where, ": the text is not a JSON object");
  refuse_other_adapters(json, a.where);
  note_unknown_keys(json, a.where, notes);
  a.lora = parse_lora_settings(json);
  a.bias = json.string_or("bias", "none");
  require<ConfigError>(a.bias == "none" || a.bias == "all" || a.bias == "lora_only", a.where, ": bias is \"", a.bias,
                       "\"; it can be none, all or lora_only");
  a.dora = json.bool_or("use_dora", false);
  a.lora_bias = json.bool_or("lora_bias", false);
  a.saved_modules = json_strings(json.find_set("modules_to_save"));
  a.parameters = json_strings(json.find_set("target_parameters"));
  if (!json.find_set("target_modules") && a.parameters.empty() && !mixture) a.lora.targets = {"q_proj", "v_proj"};
  if (const double dropout = json.double_or("lora_dropout", 0); dropout != 0)
    notes.push_back(concat(a.where, ": lora_dropout ", dropout, " is ignored; kdlib trains without dropout"));
  const auto init = json.find_set("init_lora_weights");
  if (init && init->is_string() && init->as_string() != "gaussian")
    notes.push_back(concat(a.where, ": init_lora_weights \"", init->as_string(),
                           "\": the adapter is only right with the base weights it was saved against"));
  return a;
}

KDLIB_FUNC PeftAdapter read_adapter_config(const std::string& operation, const std::string& path, bool mixture,
                                           std::vector<std::string>& notes) {
  require<IoError>(path_exists(path), operation, path, " is missing; a PEFT adapter has one");
  return parse_adapter_config(Json::parse_file(path), operation + path, mixture, notes);
}

KDLIB_FUNC bool touches_tied_head(const PeftAdapter& a) {
  const auto chosen = [&](const std::string& path) {
    return (!a.lora.targets.empty() && !a.lora.targets.all && lora_targets(a.lora, path)) ||
           std::any_of(a.saved_modules.begin(), a.saved_modules.end(),
                       [&](const auto& m) { return path.ends_with(m); }) ||
           std::any_of(a.parameters.begin(), a.parameters.end(),
                       [&](const auto& p) { return ends_with_module(path + ".weight", p); });
  };
  return chosen("model.embed_tokens") || chosen("lm_head");
}

KDLIB_FUNC std::string model_text(const DecoderConfig& c) {
  return concat(family_name(c.family), ", ", c.layers, " layers, width ", c.hidden_size);
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
