// SPDX-License-Identifier: Apache-2.0
// save_adapter and load_adapter of adapter.hpp: PEFT's adapter_config.json and adapter_model.safetensors.
#ifndef KDLIB_MODEL_ADAPTER_FILES_INL_HPP
#define KDLIB_MODEL_ADAPTER_FILES_INL_HPP

#include <algorithm>
#include <cmath>

#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/json.hpp"
#include "kdlib/io/json_writer.hpp"
#include "kdlib/io/paths.hpp"
#include "kdlib/io/safetensors.hpp"
#include "kdlib/io/safetensors_writer.hpp"
#include "kdlib/model/adapter.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// What adapter_config.json says, in the order PEFT writes it (sorted keys). Modules whose leaf name is adapted everywhere are listed by
/// it, others by their full path; ranks and alphas other than the most common go into the patterns.
template <class D, class T>
struct AdapterDescription {
  std::vector<std::string> targets;
  std::int64_t rank = 0;
  double alpha = 0;
  bool rslora = false;
  std::vector<const Linear<D, T>*> other_ranks, other_alphas;
};

inline std::string leaf_name(const std::string& path) { return path.substr(path.rfind('.') + 1); }

template <class D, class T>
AdapterDescription<D, T> describe_adapter(const std::vector<Linear<D, T>*>& linears, bool mixture) {
  AdapterDescription<D, T> d;
  std::vector<const Linear<D, T>*> adapted;
  bool plain = true;
  for (const Linear<D, T>* l : linears) {
    if (l->lora == nullptr) continue;
    adapted.push_back(l);
    plain = plain && l->lora->scale == lora_scale(l->lora->rank, l->lora->alpha, false);
    bool everywhere = true;
    for (const Linear<D, T>* o : linears) everywhere = everywhere && (leaf_name(o->path) != leaf_name(l->path) || o->lora != nullptr);
    // PEFT takes the bare names of feed-forward maps for the experts', too, in a mixture.
    d.targets.push_back(everywhere && (!mixture || l->path.find(".self_attn.") != std::string::npos) ? leaf_name(l->path) : l->path);
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
  for (const Linear<D, T>* l : d.other_alphas) write_alpha(out.key("^" + l->path), l->lora->alpha);
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
  for (const Linear<D, T>* l : d.other_ranks) out.member("^" + l->path, l->lora->rank);
  out.end_object();
  null({"revision"});
  out.member("target_modules", d.targets);
  null({"target_parameters"});
  out.member("task_type", "CAUSAL_LM");
  null({"trainable_token_indices"});
  out.member("use_dora", false).member("use_qalora", false).member("use_rslora", d.rslora).end_object();
  return out.text();
}

/// Kinds of adapters that are more than s B A on linear maps are refused by the key that says so.
inline void refuse_other_adapters(const Json& json, const std::string& where) {
  const auto refuse = [&](std::string_view key, std::string_view what) {
    fail<ConfigError>("[load_adapter] ", where, ": ", key, " ", what, " is not supported");
  };
  const std::string type = json.string_or("peft_type", "");
  require<ConfigError>(type == "LORA", "[load_adapter] ", where, ": peft_type is \"", type, "\"; LORA is supported");
  if (json.string_or("bias", "none") != "none") refuse("bias", "(trained biases) other than none");
  for (const char* key : {"use_dora", "fan_in_fan_out", "lora_bias", "use_qalora"})
    if (json.bool_or(key, false)) refuse(key, "true");
  for (const char* key : {"modules_to_save", "target_parameters", "layer_replication", "alora_invocation_tokens", "trainable_token_indices",
                          "arrow_config", "megatron_config", "kasa_config", "lora_ga_config", "monteclora_config", "use_bdlora", "velora_config"}) {
    const auto value = json.find_set(key);
    if (value && !(value->is_bool() && !value->as_bool()) && !((value->is_array() || value->is_object()) && value->size() == 0))
      refuse(key, "(set)");
  }
}

inline std::vector<std::string> json_strings(const Json& value) {
  if (value.is_string()) return {std::string(value.as_string())};
  std::vector<std::string> list;
  for (const Json& element : value) list.emplace_back(element.as_string());
  return list;
}

inline ModuleChoice parse_choice(const Json& json, const char* key) {
  const auto value = json.find_set(key);
  if (!value) return {};
  if (!value->is_string()) return ModuleChoice(json_strings(*value));
  const std::string text(value->as_string());
  return text == "all-linear" ? ModuleChoice::all_linear() : ModuleChoice::matching(text);
}

inline LoraSettings parse_adapter_config(const Json& json, const std::string& where, std::vector<std::string>& notes) {
  require<FormatError>(json.is_object(), "[load_adapter] ", where, ": the text is not a JSON object");
  refuse_other_adapters(json, where);
  LoraSettings s;
  s.rank = json.int_or("r", 8);
  s.alpha = json.double_or("lora_alpha", 8);
  s.rslora = json.bool_or("use_rslora", false);
  s.targets = parse_choice(json, "target_modules");
  if (s.targets.empty()) s.targets = {"q_proj", "v_proj"};  // PEFT's default for these families
  s.exclude = parse_choice(json, "exclude_modules");
  if (const auto layers = json.find_set("layers_to_transform")) {
    if (layers->is_array())
      for (const Json& i : *layers) s.layers.push_back(i.as_int());
    else s.layers.push_back(layers->as_int());
  }
  if (const auto lists = json.find_set("layers_pattern")) s.layer_lists = json_strings(*lists);
  if (const auto ranks = json.find_set("rank_pattern"))
    for (const auto& [key, value] : ranks->members()) s.rank_pattern.emplace_back(key, value.as_int());
  if (const auto alphas = json.find_set("alpha_pattern"))
    for (const auto& [key, value] : alphas->members()) s.alpha_pattern.emplace_back(key, value.as_double());
  if (const double dropout = json.double_or("lora_dropout", 0); dropout != 0)
    notes.push_back(concat(where, ": lora_dropout ", dropout, " is ignored; kdlib trains without dropout"));
  const auto init = json.find_set("init_lora_weights");
  if (init && init->is_string() && init->as_string() != "gaussian")
    notes.push_back(concat(where, ": init_lora_weights \"", init->as_string(), "\": the adapter is only right with the base weights it was saved against"));
  return s;
}

/// "base_model.model.<path>.lora_A.weight" of a stored name; the infix of an adapter's name ("default") is dropped.
inline std::string plain_adapter_name(std::string name) {
  for (const std::string_view part : {".lora_A.default.", ".lora_B.default."})
    if (const std::size_t at = name.find(part); at != std::string::npos) name.erase(at + 7, 8);
  return name;
}

template <class D, class T>
void read_factor(Parameter<T, D>& p, const std::vector<std::pair<std::string, const TensorInfo*>>& stored, const std::string& where) {
  const auto found = std::find_if(stored.begin(), stored.end(), [&](const auto& s) { return s.first == p.name; });
  require<FormatError>(found != stored.end(), "[load_adapter] ", where, ": tensor \"", p.name, "\" ", p.value.shape(),
                       " is missing; adapter_config.json asks for it");
  const TensorInfo& t = *found->second;
  require<FormatError>(t.dtype == DType::f32 || t.dtype == DType::bf16 || t.dtype == DType::f16 || t.dtype == DType::f64, "[load_adapter] ", t.text(),
                       ": factors must be F32, BF16, F16 or F64");
  require<FormatError>(t.extents.size() == 2 && t.shape() == p.value.shape(), "[load_adapter] ", t.text(), ": rank and base model ask for ",
                       p.value.shape());
  const std::vector<T> values = read_as<T>(t);
  for (const T x : values) require<FormatError>(std::isfinite(x), "[load_adapter] ", t.text(), ": holds a value that is not finite");
  Memory<D>::from_host(p.value.data(), values.data(), values.size() * sizeof(T));
}

}  // namespace detail

template <class D, class T>
void save_adapter(Decoder<D, T>& model, const std::string& directory, const AdapterSaveSettings& settings) {
  require<ConfigError>(model.has_adapter(), "[save_adapter] the model has no adapter");
  require<ConfigError>(settings.dtype == "float32" || settings.dtype == "bfloat16" || settings.dtype == "float16", "[save_adapter] dtype ",
                       settings.dtype, " is not supported; it can be float32, bfloat16 or float16");
  make_directories(directory);
  SafetensorsWriter writer(join_path(directory, "adapter_model.safetensors"));
  writer.metadata("format", "pt");
  for (const Linear<D, T>* l : model.linears()) {
    if (l->lora == nullptr) continue;
    for (const Parameter<T, D>* p : {&l->lora->a, &l->lora->b}) {
      const auto write = [p](AtomicFile& file, auto zero) {
        std::vector<T> values(static_cast<std::size_t>(p->value.count()));
        Memory<D>::to_host(values.data(), p->value.data(), values.size() * sizeof(T));
        std::vector<decltype(zero)> stored(values.size());
        for (std::size_t i = 0; i < values.size(); ++i) stored[i] = static_cast<decltype(zero)>(values[i]);
        file.write(stored.data(), stored.size() * sizeof stored[0]);
      };
      if (settings.dtype == "float32") writer.add_from(p->name, DType::f32, p->value.shape(), [write](AtomicFile& f) { write(f, 0.0f); });
      else if (settings.dtype == "bfloat16") writer.add_from(p->name, DType::bf16, p->value.shape(), [write](AtomicFile& f) { write(f, bf16()); });
      else writer.add_from(p->name, DType::f16, p->value.shape(), [write](AtomicFile& f) { write(f, f16()); });
    }
  }
  writer.commit();
  const auto description = detail::describe_adapter<D, T>(model.linears(), model.config().mixtures() > 0);
  write_file_atomically(join_path(directory, "adapter_config.json"), detail::adapter_config_text(description, settings));
}

template <class D, class T>
std::vector<std::string> load_adapter(Decoder<D, T>& model, const std::string& directory) {
  std::vector<std::string> notes;
  const std::string config = join_path(directory, "adapter_config.json"), weights = join_path(directory, "adapter_model.safetensors");
  require<IoError>(path_exists(config), "[load_adapter] ", config, " is missing; a PEFT adapter has one");
  const LoraSettings settings = detail::parse_adapter_config(Json::parse_file(config), config, notes);
  require<ConfigError>(path_exists(weights) || !path_exists(join_path(directory, "adapter_model.bin")), "[load_adapter] ", directory,
                       ": adapter_model.bin is a pickle, which is not read; save the adapter as safetensors");
  const SafetensorsFile file(weights);
  const std::vector<Linear<D, T>*> targets = detail::lora_modules(model, settings, concat("[load_adapter] ", config, ": "));
  std::vector<std::pair<std::string, const TensorInfo*>> stored;
  for (const TensorInfo& t : file.tensors()) stored.emplace_back(detail::plain_adapter_name(t.name), &t);
  std::vector<std::unique_ptr<LoraPair<D, T>>> pairs;
  for (const Linear<D, T>* l : targets) {
    pairs.push_back(detail::make_lora_pair(*l, settings));
    detail::read_factor(pairs.back()->a, stored, weights);
    detail::read_factor(pairs.back()->b, stored, weights);
  }
  for (const auto& [name, info] : stored) {
    require<ConfigError>(name.find(".experts.") == std::string::npos, "[load_adapter] ", info->text(),
                         ": LoRA on experts is not supported; attention, dense and shared maps are");
    const bool known = std::any_of(pairs.begin(), pairs.end(), [&n = name](const auto& p) { return p->a.name == n || p->b.name == n; });
    require<FormatError>(known, "[load_adapter] ", info->text(), ": belongs to no module that adapter_config.json targets, or to a kind of adapter "
                                                                 "that is not supported");
  }
  model.set_trainable(false);
  for (std::size_t i = 0; i < targets.size(); ++i) targets[i]->lora = std::move(pairs[i]);
  return notes;
}

KDLIB_NAMESPACE_END

#endif
