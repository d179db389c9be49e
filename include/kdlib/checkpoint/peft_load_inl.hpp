// SPDX-License-Identifier: Apache-2.0
// What PEFT's adapter_config.json says and where the tensors of adapter_model.safetensors are; load_adapter of
// peft_adapter.hpp.
#ifndef KDLIB_CHECKPOINT_PEFT_LOAD_INL_HPP
#define KDLIB_CHECKPOINT_PEFT_LOAD_INL_HPP

#include <algorithm>
#include <cmath>
#include <limits>

#include "kdlib/checkpoint/gguf_adapter.hpp"
#include "kdlib/checkpoint/peft_adapter.hpp"
#include "kdlib/io/json.hpp"
#include "kdlib/io/paths.hpp"
#include "kdlib/io/safetensors.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// What an adapter_config.json asks for.
struct PeftAdapter {
  std::string where;  // "[load_adapter] <path of the file>"
  LoraSettings lora;
  std::string bias = "none";  // none, all or lora_only
  bool dora = false, lora_bias = false;
  std::vector<std::string> saved_modules;  // modules_to_save
  std::vector<std::string> parameters;     // target_parameters
};

/// Kinds of adapters that nothing here computes are refused by the key that says so.
inline void refuse_other_adapters(const Json& json, const std::string& where) {
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
inline void note_unknown_keys(const Json& json, const std::string& where, std::vector<std::string>& notes) {
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

/// A misspelt pattern would silently leave its modules with the rank and scale of the others. `modules`:
/// pointers to Linear, or AdapterDelta.
template <class Modules>
void note_unmatched_patterns(const PeftAdapter& adapter, const Modules& modules, std::vector<std::string>& notes) {
  const auto look = [&](const char* key, const auto& patterns) {
    for (const auto& pattern : patterns) {
      const std::remove_cvref_t<decltype(patterns)> one{pattern};
      bool fits = false;
      for (const auto& module : modules) {
        if constexpr (requires { module->path; }) fits = fits || find_pattern(one, module->path) != nullptr;
        else fits = fits || find_pattern(one, module.slot.path) != nullptr;
      }
      if (!fits)
        notes.push_back(concat(adapter.where, ": ", key, " \"", printable(pattern.first),
                               "\" fits no module of the adapter and changes nothing"));
    }
  };
  look("rank_pattern", adapter.lora.rank_pattern);
  look("alpha_pattern", adapter.lora.alpha_pattern);
}

/// Kinds that apply_adapter merges and load_adapter does not train.
inline void require_trainable(const PeftAdapter& a) {
  const auto refuse = [&](bool set, std::string_view what) {
    require<ConfigError>(!set, a.where, ": ", what,
                         " is read for merging only, not for training: apply_adapter(model, directory) does that");
  };
  refuse(a.bias != "none", concat("bias \"", a.bias, "\" (trained biases)"));
  refuse(a.dora, "use_dora true");
  refuse(a.lora_bias, "lora_bias true");
  refuse(!a.saved_modules.empty(), "modules_to_save (set)");
}

inline std::vector<std::string> json_strings(const std::optional<Json>& value) {
  std::vector<std::string> list;
  if (!value) return list;
  if (value->is_string()) return {std::string(value->as_string())};
  for (const Json& element : *value) list.emplace_back(element.as_string());
  return list;
}

inline ModuleChoice parse_choice(const Json& json, const char* key) {
  const auto value = json.find_set(key);
  if (!value) return {};
  if (!value->is_string()) return ModuleChoice(json_strings(value));
  const std::string text(value->as_string());
  return text == "all-linear" ? ModuleChoice::all_linear() : ModuleChoice::matching(text);
}

/// A number that float32, in which adapters are computed, can hold.
inline double float_number(const Json& json) {
  const double value = json.as_double();
  if (!(std::abs(value) <= double{std::numeric_limits<float>::max()})) json.refuse("is beyond the range of float32");
  return value;
}

inline LoraSettings parse_lora_settings(const Json& json) {
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

/// `where` as in "[load_adapter] FILE". PEFT's default targets are those of dense families; mixtures have none.
inline PeftAdapter parse_adapter_config(const Json& json, std::string where, bool mixture,
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

inline PeftAdapter read_adapter_config(const std::string& operation, const std::string& path, bool mixture,
                                       std::vector<std::string>& notes) {
  require<IoError>(path_exists(path), operation, path, " is missing; a PEFT adapter has one");
  return parse_adapter_config(Json::parse_file(path), operation + path, mixture, notes);
}

/// The tensors of an adapter's file by PEFT's names for a saved file, each to be taken once; an infix "default" (the
/// adapter's name in memory) is dropped.
class AdapterTensors {
 public:
  AdapterTensors(const std::string& operation, const std::string& directory)
      : operation_(operation), file_(weights_of(operation, directory)) {
    for (const TensorInfo& t : file_.tensors()) stored_.push_back({plain_name(t.name), &t, false});
    std::sort(stored_.begin(), stored_.end(), [](const Stored& a, const Stored& b) { return a.name < b.name; });
  }

  bool holds(const std::string& name) const { return find(name) < stored_.size(); }
  /// All values of a tensor of that name and shape. FormatError: it is missing (`why` asks for it), has another shape
  /// or type, or holds NaN or infinity.
  template <class T>
  std::vector<T> take(const std::string& name, const Shape& shape, std::string_view why) {
    const std::size_t at = find(name);
    require<FormatError>(at < stored_.size(), operation_, file_.path(), ": tensor \"", name, "\" ", shape,
                         " is missing; ", why, " asks for it");
    const TensorInfo& t = *stored_[at].info;
    require<FormatError>(
        t.dtype == DType::f32 || t.dtype == DType::bf16 || t.dtype == DType::f16 || t.dtype == DType::f64, operation_,
        t.text(), ": tensors of adapters must be F32, BF16, F16 or F64");
    require<FormatError>(t.extents.size() == static_cast<std::size_t>(shape.rank()) && t.shape() == shape, operation_,
                         t.text(), ": rank and base model ask for ", shape, "; is the adapter for another model?");
    std::vector<T> values = read_as<T>(t);
    for (const T x : values)
      require<FormatError>(std::isfinite(x), operation_, t.text(), ": holds a value that is not finite");
    stored_[at].taken = true;
    return values;
  }
  /// FormatError that names the first tensor nobody took; `model` as in "llama, 3 layers".
  void require_all_taken(const std::string& model) const {
    for (const Stored& s : stored_)
      require<FormatError>(s.taken, operation_, s.info->text(), ": belongs to no module of the model (", model,
                           ") that adapter_config.json targets, or to a kind of adapter that is not supported");
  }
  std::vector<std::string> names() const {
    std::vector<std::string> list;
    for (const Stored& s : stored_) list.push_back(s.name);
    return list;
  }
  const std::string& path() const { return file_.path(); }

 private:
  struct Stored {
    std::string name;
    const TensorInfo* info;
    bool taken;
  };
  std::size_t find(const std::string& name) const {
    const auto found = std::lower_bound(stored_.begin(), stored_.end(), name,
                                        [](const Stored& s, const std::string& n) { return s.name < n; });
    return found != stored_.end() && found->name == name ? static_cast<std::size_t>(found - stored_.begin())
                                                         : stored_.size();
  }
  static std::string weights_of(const std::string& operation, const std::string& directory) {
    const std::string path = join_path(directory, "adapter_model.safetensors");
    require<ConfigError>(path_exists(path) || !path_exists(join_path(directory, "adapter_model.bin")), operation,
                         directory,
                         ": adapter_model.bin is a pickle, which is not read; save the adapter as safetensors");
    return path;
  }
  static std::string plain_name(std::string name) {
    for (const std::string_view part :
         {".lora_A", ".lora_B", ".lora_embedding_A", ".lora_embedding_B", ".lora_magnitude_vector"})
      if (const std::size_t at = name.find(concat(part, ".default")); at != std::string::npos)
        name.erase(at + part.size(), 8);
    constexpr std::string_view saved = ".modules_to_save.default";
    if (const std::size_t at = name.find(saved); at != std::string::npos) name.erase(at, saved.size());
    return name;
  }

  std::string operation_;
  SafetensorsFile file_;
  std::vector<Stored> stored_;
};

template <class D, class T>
std::string model_text(const Decoder<D, T>& model) {
  const DecoderConfig& c = model.config();
  return concat(family_name(c.family), ", ", c.layers, " layers, width ", c.hidden_size);
}

template <class T, class D>
void copy_values(const Tensor<T, D>& to, const std::vector<T>& values) {
  Memory<D>::from_host(to.data(), values.data(), values.size() * sizeof(T));
}

/// The linear maps and routers whose weights target_parameters names; experts and other parameters are not trained.
template <class D, class T>
std::vector<Linear<D, T>*> lora_weights(Decoder<D, T>& model, const PeftAdapter& a) {
  std::vector<Linear<D, T>*> list;
  const auto wanted = [&](const std::string& name) {
    return std::any_of(a.parameters.begin(), a.parameters.end(),
                       [&](const std::string& p) { return ends_with_module(name, p); });
  };
  for (Linear<D, T>* l : model.adaptable()) {
    if (!wanted(l->path + ".weight")) continue;
    require<ConfigError>(a.lora.targets.empty() || !lora_targets(a.lora, l->path), a.where, ": ", l->path,
                         " is in both target_modules and target_parameters");
    list.push_back(l);
  }
  for (const Parameter<T, D>* p : model.parameters()) {
    const bool linear =
        std::any_of(list.begin(), list.end(), [&](const auto* l) { return l->path + ".weight" == p->name; });
    require<ConfigError>(linear || !wanted(p->name), a.where, ": target_parameters names ", p->name,
                         ": LoRA on experts and the like is read for merging only, not for training: "
                         "apply_adapter(model, directory) does that");
  }
  require<ConfigError>(a.parameters.empty() || !list.empty(), a.where,
                       ": target_parameters names nothing that the model (", model_text(model), ") has");
  return list;
}

}  // namespace detail

template <class D, class T>
std::vector<std::string> load_adapter(Decoder<D, T>& model, const std::string& directory) {
  if (is_regular_file(directory)) return load_gguf_adapter(model, directory);
  std::vector<std::string> notes;
  const std::string operation = "[load_adapter] ";
  const detail::PeftAdapter adapter = detail::read_adapter_config(
      operation, join_path(directory, "adapter_config.json"), model.config().mixtures() > 0, notes);
  detail::require_trainable(adapter);
  std::vector<Linear<D, T>*> targets;
  if (!adapter.lora.targets.empty() || adapter.parameters.empty())
    targets = detail::lora_modules(model, adapter.lora, adapter.where + ": ");
  require<ConfigError>(!model.has_adapter(), adapter.where,
                       ": the model has an adapter already: remove_adapter(model) first");
  const std::size_t modules = targets.size();
  for (Linear<D, T>* l : detail::lora_weights(model, adapter)) targets.push_back(l);
  detail::AdapterTensors tensors(operation, directory);
  for (const std::string& name : tensors.names())
    require<ConfigError>(
        name.find(".experts.") == std::string::npos, operation, tensors.path(), ": tensor \"", name,
        "\": LoRA on experts is read for merging only, not for training: apply_adapter(model, directory) does that");
  std::vector<std::unique_ptr<LoraPair<D, T>>> pairs;
  for (std::size_t i = 0; i < targets.size(); ++i) {
    pairs.push_back(detail::make_lora_pair(*targets[i], adapter.lora, i < modules ? "" : ".weight"));
    for (Parameter<T, D>* p : {&pairs.back()->a, &pairs.back()->b})
      detail::set_trained_values(
          *p, tensors.template take<gradient_t<T>>(p->name, p->value.shape(), "adapter_config.json"));
  }
  tensors.require_all_taken(detail::model_text(model));
  model.set_trainable(false);
  for (std::size_t i = 0; i < targets.size(); ++i) targets[i]->lora = std::move(pairs[i]);
  detail::note_unmatched_patterns(adapter, targets, notes);
  return notes;
}

KDLIB_NAMESPACE_END

#endif
