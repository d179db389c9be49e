// SPDX-License-Identifier: Apache-2.0
// save_adapter of peft_adapter.hpp: PEFT's adapter_config.json and adapter_model.safetensors.
#ifndef KDLIB_CHECKPOINT_PEFT_SAVE_INL_HPP
#define KDLIB_CHECKPOINT_PEFT_SAVE_INL_HPP

#include <algorithm>
#include <cmath>

#include "kdlib/checkpoint/peft_adapter.hpp"
#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/json_writer.hpp"
#include "kdlib/io/paths.hpp"
#include "kdlib/io/safetensors_writer.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// What adapter_config.json says, in the order PEFT writes it (sorted keys). Modules whose leaf name is adapted
/// everywhere are listed by it, others by their full path; ranks and alphas other than the most common go into the
/// patterns. PEFT takes every name of a feed-forward map of Qwen3-MoE for the experts': the maps of its dense layers
/// are listed by their weights, as target_parameters.
template <class D, class T>
struct AdapterDescription {
  std::vector<std::string> targets, parameters;
  bool weights_of_feed_forward = false;
  std::vector<const Linear<D, T>*> routers;
  std::int64_t rank = 0;
  double alpha = 0;
  bool rslora = false;
  std::vector<const Linear<D, T>*> other_ranks, other_alphas;

  bool by_weight(const Linear<D, T>& l) const {
    return (weights_of_feed_forward && l.path.find(".mlp.") != std::string::npos) ||
           std::find(routers.begin(), routers.end(), &l) != routers.end();
  }
  std::string pattern(const Linear<D, T>& l) const { return concat("^", l.path, by_weight(l) ? ".weight" : ""); }
};

inline std::string leaf_name(const std::string& path) { return path.substr(path.rfind('.') + 1); }

template <class D, class T>
AdapterDescription<D, T> describe_adapter(const Decoder<D, T>& model) {
  const std::vector<Linear<D, T>*> linears = model.adaptable(), routers = model.routers();
  const DecoderConfig& config = model.config();
  AdapterDescription<D, T> d;
  d.routers.assign(routers.begin(), routers.end());
  const bool mixture = config.mixtures() > 0;
  d.weights_of_feed_forward = mixture && config.family == Family::qwen3_moe;
  std::vector<const Linear<D, T>*> adapted;
  bool plain = true;
  for (const Linear<D, T>* l : linears) {
    if (l->lora == nullptr) continue;
    adapted.push_back(l);
    plain = plain && l->lora->scale == lora_scale(l->lora->rank, l->lora->alpha, false);
    if (d.by_weight(*l)) {
      d.parameters.push_back(l->path + ".weight");
      continue;
    }
    bool everywhere = true;
    for (const Linear<D, T>* o : linears)
      everywhere = everywhere && (leaf_name(o->path) != leaf_name(l->path) || o->lora != nullptr);
    // PEFT takes the bare names of feed-forward maps for the experts', too, in a mixture.
    d.targets.push_back(
        everywhere && (!mixture || l->path.find(".self_attn.") != std::string::npos) ? leaf_name(l->path) : l->path);
  }
  std::sort(d.targets.begin(), d.targets.end());
  d.targets.erase(std::unique(d.targets.begin(), d.targets.end()), d.targets.end());
  d.rslora = !plain;
  const auto most_common = [&](auto&& of) {
    const Linear<D, T>* best = adapted[0];
    std::size_t most = 0;
    for (const Linear<D, T>* l : adapted) {
      std::size_t n = 0;
      for (const Linear<D, T>* o : adapted) n += of(*o->lora) == of(*l->lora) ? 1u : 0u;
      if (n > most) most = n, best = l;
    }
    return of(*best->lora);
  };
  d.rank = most_common([](const LoraPair<D, T>& p) { return p.rank; });
  d.alpha = most_common([](const LoraPair<D, T>& p) { return p.alpha; });
  for (const Linear<D, T>* l : adapted) {
    if (l->lora->rank != d.rank) d.other_ranks.push_back(l);
    if (l->lora->alpha != d.alpha) d.other_alphas.push_back(l);
  }
  return d;
}

inline void write_alpha(JsonWriter& out, double alpha) {
  if (alpha == std::floor(alpha) && std::abs(alpha) < 1e9) out.value(static_cast<std::int64_t>(alpha));
  else out.value(alpha);
}

template <class D, class T>
std::string adapter_config_text(const AdapterDescription<D, T>& d, const AdapterSaveSettings& settings) {
  JsonWriter out(JsonStyle{2, NonFinite::refuse});
  const auto null = [&](std::initializer_list<const char*> keys) {
    for (const char* key : keys) out.key(key).null();
  };
  out.begin_object();
  null({"alora_invocation_tokens"});
  out.key("alpha_pattern").begin_object();
  for (const Linear<D, T>* l : d.other_alphas) write_alpha(out.key(d.pattern(*l)), l->lora->alpha);
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
  for (const Linear<D, T>* l : d.other_ranks) out.member(d.pattern(*l), l->lora->rank);
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

template <class D, class T>
void save_adapter(Decoder<D, T>& model, const std::string& directory, const AdapterSaveSettings& settings) {
  require<ConfigError>(model.has_adapter(), "[save_adapter] the model has no adapter");
  require<ConfigError>(settings.dtype == "float32" || settings.dtype == "bfloat16" || settings.dtype == "float16",
                       "[save_adapter] dtype ", settings.dtype,
                       " is not supported; it can be float32, bfloat16 or float16");
  make_directories(directory);
  SafetensorsWriter writer(join_path(directory, "adapter_model.safetensors"));
  writer.metadata("format", "pt");
  for (const Linear<D, T>* l : model.adaptable()) {
    if (l->lora == nullptr) continue;
    for (const Parameter<T, D>* p : {&l->lora->a, &l->lora->b}) {
      const auto write = [p](AtomicFile& file, auto zero) {
        const std::vector<gradient_t<T>> values = host_copy<gradient_t<T>, D>(p->trained_values());
        std::vector<decltype(zero)> stored(values.size());
        for (std::size_t i = 0; i < values.size(); ++i) stored[i] = static_cast<decltype(zero)>(values[i]);
        file.write(stored.data(), stored.size() * sizeof stored[0]);
      };
      if (settings.dtype == "float32")
        writer.add_from(p->name, DType::f32, p->value.shape(), [write](AtomicFile& f) { write(f, 0.0f); });
      else if (settings.dtype == "bfloat16")
        writer.add_from(p->name, DType::bf16, p->value.shape(), [write](AtomicFile& f) { write(f, bf16()); });
      else writer.add_from(p->name, DType::f16, p->value.shape(), [write](AtomicFile& f) { write(f, f16()); });
    }
  }
  writer.commit();
  const auto description = detail::describe_adapter<D, T>(model);
  write_file_atomically(join_path(directory, "adapter_config.json"),
                        detail::adapter_config_text(description, settings));
}

KDLIB_NAMESPACE_END

#endif
