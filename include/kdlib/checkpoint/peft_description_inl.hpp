// SPDX-License-Identifier: Apache-2.0
// adapter_config.json of an adapter that is saved (peft_adapter.hpp).
#ifndef KDLIB_CHECKPOINT_PEFT_DESCRIPTION_INL_HPP
#define KDLIB_CHECKPOINT_PEFT_DESCRIPTION_INL_HPP

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <string>
#include <vector>

#include "kdlib/checkpoint/peft_adapter.hpp"
#include "kdlib/core/error.hpp"
#include "kdlib/io/json_writer.hpp"
#include "kdlib/nn/lora.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// What adapter_config.json says, in the order PEFT writes it (sorted keys). Modules whose leaf name is adapted
/// everywhere are listed by it, others by their full path; ranks and alphas other than the most common go into the
/// patterns. PEFT takes every name of a feed-forward map of Qwen3-MoE for the experts': the maps of its dense layers
/// are listed by their weights, as target_parameters.
struct AdapterDescription {
  std::vector<std::string> targets, parameters;
  bool weights_of_feed_forward = false;
  std::int64_t rank = 0;
  double alpha = 0;
  bool rslora = false;
  std::vector<const AdaptedMap*> other_ranks, other_alphas;

  bool by_weight(const AdaptedMap& l) const {
    return (weights_of_feed_forward && l.path.find(".mlp.") != std::string::npos) || l.router;
  }
  std::string pattern(const AdaptedMap& l) const { return concat("^", l.path, by_weight(l) ? ".weight" : ""); }
};

KDLIB_FUNC std::string leaf_name(const std::string& path) { return path.substr(path.rfind('.') + 1); }

KDLIB_FUNC AdapterDescription describe_adapter(const std::vector<AdaptedMap>& maps, const DecoderConfig& config) {
  AdapterDescription d;
  const bool mixture = config.mixtures() > 0;
  d.weights_of_feed_forward = mixture && config.family == Family::qwen3_moe;
  std::vector<const AdaptedMap*> adapted;
  bool plain = true;
  for (const AdaptedMap& l : maps) {
    if (!l.adapted) continue;
    adapted.push_back(&l);
    plain = plain && l.scale == lora_scale(l.rank, l.alpha, false);
    if (d.by_weight(l)) {
      d.parameters.push_back(l.path + ".weight");
      continue;
    }
    bool everywhere = true;
    for (const AdaptedMap& o : maps) everywhere = everywhere && (leaf_name(o.path) != leaf_name(l.path) || o.adapted);
    // PEFT takes the bare names of feed-forward maps for the experts', too, in a mixture.
    d.targets.push_back(everywhere && (!mixture || l.path.find(".self_attn.") != std::string::npos) ? leaf_name(l.path)
                                                                                                    : l.path);
  }
  std::sort(d.targets.begin(), d.targets.end());
  d.targets.erase(std::unique(d.targets.begin(), d.targets.end()), d.targets.end());
  d.rslora = !plain;
  const auto most_common = [&](auto of) {
    const AdaptedMap* best = adapted[0];
    std::size_t most = 0;
    for (const AdaptedMap* l : adapted) {
      std::size_t n = 0;
      for (const AdaptedMap* o : adapted) n += o->*of == l->*of ? 1u : 0u;
      if (n > most) most = n, best = l;
    }
    return best->*of;
  };
  d.rank = most_common(&AdaptedMap::rank);
  d.alpha = most_common(&AdaptedMap::alpha);
  for (const AdaptedMap* l : adapted) {
    if (l->rank != d.rank) d.other_ranks.push_back(l);
    if (l->alpha != d.alpha) d.other_alphas.push_back(l);
  }
  return d;
}

KDLIB_FUNC void write_alpha(JsonWriter& out, double alpha) {
  if (alpha == std::floor(alpha) && std::abs(alpha) < 1e9) out.value(static_cast<std::int64_t>(alpha));
  else out.value(alpha);
}

KDLIB_FUNC std::string adapter_config_text(const std::vector<AdaptedMap>& maps, const DecoderConfig& config,
                                           const AdapterSaveSettings& settings) {
  const AdapterDescription d = describe_adapter(maps, config);
  JsonWriter out(JsonStyle{2, NonFinite::refuse});
  const auto null = [&](std::initializer_list<const char*> keys) {
    for (const char* key : keys) out.key(key).null();
  };
  out.begin_object();
  null({"alora_invocation_tokens"});
  out.key("alpha_pattern").begin_object();
  for (const AdaptedMap* l : d.other_alphas) write_alpha(out.key(d.pattern(*l)), l->alpha);
  out.end_object();
  null({"arrow_config", "auto_mapping"});
  if (settings.base_model_name_or_path.empty()) null({"base_model_name_or_path"});
  else out.member("base_model_name_or_path", settings.base_model_name_or_path);
  out.member("bias", "none");
  null({"corda_config"});
  out.member("ensure_weight_tying", false);
  null({"eva_config", "exclude_modules"});
  out.member("fan_in_fan_out", false).member("inference_mode", true).member("init_lora_weights", true);
  null({"layer_replication", "layers_pattern", "layers_to_transform"});
  out.key("loftq_config").begin_object().end_object();
  write_alpha(out.key("lora_alpha"), d.alpha);
  out.member("lora_bias", false).member("lora_dropout", 0.0);
  null({"megatron_config"});
  out.member("megatron_core", "megatron.core");
  null({"modules_to_save"});
  out.member("peft_type", "LORA").member("qalora_group_size", 16).member("r", d.rank);
  out.key("rank_pattern").begin_object();
  for (const AdaptedMap* l : d.other_ranks) out.member(d.pattern(*l), l->rank);
  out.end_object();
  null({"revision"});
  out.member("target_modules", d.targets);
  if (d.parameters.empty()) null({"target_parameters"});
  else out.member("target_parameters", d.parameters);
  out.member("task_type", "CAUSAL_LM");
  null({"trainable_token_indices"});
  out.member("use_dora", false).member("use_qalora", false).member("use_rslora", d.rslora).end_object();
  return out.text();
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
