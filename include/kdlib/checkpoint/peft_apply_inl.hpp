// SPDX-License-Identifier: Apache-2.0
// Body of peft_apply.hpp: everything is found and checked first, then weights are changed one after another.
#ifndef KDLIB_CHECKPOINT_PEFT_APPLY_INL_HPP
#define KDLIB_CHECKPOINT_PEFT_APPLY_INL_HPP

#include <algorithm>
#include <cmath>

#include "kdlib/checkpoint/hf_experts.hpp"
#include "kdlib/checkpoint/peft_apply.hpp"
#include "kdlib/checkpoint/peft_parts.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

enum class SlotForm { linear, embedding, experts };

/// A matrix that an adapter may change: a parameter, one expert's rows of it, or all experts of it.
template <class D, class T>
struct AdapterSlot {
  Parameter<T, D>* parameter = nullptr;
  SlotForm form = SlotForm::linear;
  std::string path;         // what targets and patterns are compared with
  std::string stored;       // what the names of its tensors begin with
  std::int64_t offset = 0;  // first element in the parameter
  std::int64_t out = 0, in = 0, experts = 1;
  bool optional = false;  // PEFT may leave it out although its name fits
  bool module = true;     // of target_modules, not of target_parameters
};

/// Factors of one slot, on the host.
template <class D, class T>
struct AdapterDelta {
  AdapterSlot<D, T> slot;
  std::int64_t rank = 0;
  double scale = 0;
  std::vector<gradient_t<T>> a, b, magnitude, bias;
};

template <class D, class T>
struct AdapterPlan {
  std::vector<std::pair<Parameter<T, D>*, std::vector<T>>> replaced;
  std::vector<AdapterDelta<D, T>> deltas;
};

inline std::string module_of(const std::string& parameter) { return parameter.substr(0, parameter.rfind('.')); }
inline bool is_router(std::string_view module) {
  return module.ends_with(".mlp.gate") || module.ends_with(".mlp.router");
}

/// Slots of a parameter under the names of target_modules. Packed experts are seen as a module an expert and map, as
/// older files have them.
template <class D, class T>
void append_module_slots(std::vector<AdapterSlot<D, T>>& list, Parameter<T, D>& p, const DecoderConfig& config) {
  const Shape& shape = p.value.shape();
  if (is_expert_tensor(p.name) && config.family != Family::gpt_oss) {
    const bool gated = p.name.ends_with("gate_up_proj");
    const std::int64_t out = gated ? shape[1] / 2 : shape[1];
    const std::vector<const char*> maps =
        gated ? std::vector<const char*>{"gate_proj", "up_proj"} : std::vector<const char*>{"down_proj"};
    std::int64_t offset = 0;
    for (std::int64_t e = 0; e < shape[0]; ++e)
      for (const char* map : maps) {
        const std::string path = concat(module_of(p.name), ".", e, ".", map);
        list.push_back({&p, SlotForm::linear, path, path, offset, out, shape[2], 1, true, true});
        offset += out * shape[2];
      }
  } else if (shape.rank() == 2 && p.name.ends_with(".weight")) {
    const std::string path = module_of(p.name);
    const bool embedding = path == "model.embed_tokens";
    const bool dense_of_mixture = config.mixtures() > 0 && path.find(".mlp.") != std::string::npos &&
                                  path.find(".shared_expert") == std::string::npos;
    list.push_back({&p, embedding ? SlotForm::embedding : SlotForm::linear, path, path, 0, shape[0], shape[1], 1,
                    dense_of_mixture, true});
  }
}

template <class D, class T>
std::vector<AdapterSlot<D, T>> targeted_modules(Decoder<D, T>& model, const PeftAdapter& adapter) {
  std::vector<AdapterSlot<D, T>> all, list;
  if (adapter.lora.targets.empty()) return list;
  for (Parameter<T, D>* p : model.parameters()) append_module_slots(all, *p, model.config());
  if (model.config().tied_head) {
    all.push_back(all.front());
    require(all.front().form == SlotForm::embedding, "[apply_adapter] the first parameter is the embedding");
    all.back().form = SlotForm::linear;
    all.back().path = all.back().stored = "lm_head";
  }
  for (AdapterSlot<D, T>& s : all) {
    const bool linear = !s.optional && s.form == SlotForm::linear && s.path != "lm_head" && !is_router(s.path);
    const bool dense = linear || (s.optional && !is_router(s.path) && s.path.find(".experts.") == std::string::npos);
    const bool saved = std::any_of(adapter.saved_modules.begin(), adapter.saved_modules.end(),
                                   [&](const auto& m) { return s.path.ends_with(m); });
    if (!saved && (!adapter.lora.targets.all || dense) && lora_targets(adapter.lora, s.path))
      list.push_back(std::move(s));
  }
  for (const Linear<D, T>* l : model.linears())
    require<ConfigError>(l->packed() == nullptr || !lora_targets(adapter.lora, l->path), "[apply_adapter] ", l->path,
                         " is packed; an adapter is merged into dense weights");
  return list;
}

/// Slots of target_parameters. PEFT wraps the chosen parameters of a module one around the other: the first one's
/// tensors are the innermost.
template <class D, class T>
std::vector<AdapterSlot<D, T>> targeted_parameters(Decoder<D, T>& model, const PeftAdapter& adapter) {
  std::vector<AdapterSlot<D, T>> list;
  for (const std::string& wanted : adapter.parameters) {
    const auto fits = [&](const Parameter<T, D>* p) { return ends_with_module(p->name, wanted); };
    const std::vector<Parameter<T, D>*> all = model.parameters();
    require<ConfigError>(std::any_of(all.begin(), all.end(), fits), adapter.where, ": target_parameters names ", wanted,
                         ", which the model (", model_text(model), ") does not have");
  }
  for (Parameter<T, D>* p : model.parameters()) {
    if (std::none_of(adapter.parameters.begin(), adapter.parameters.end(),
                     [&](const auto& w) { return ends_with_module(p->name, w); }))
      continue;
    const Shape& shape = p->value.shape();
    const bool experts = is_expert_tensor(p->name);
    require<ConfigError>(experts || (shape.rank() == 2 && p->name.ends_with(".weight")), adapter.where,
                         ": target_parameters: LoRA on ", p->name, " ", shape,
                         " is not supported; matrices and packed experts are");
    AdapterSlot<D, T> s{p,        experts ? SlotForm::experts : SlotForm::linear,
                        p->name,  module_of(p->name),
                        0,        shape[0],
                        shape[1], 1,
                        false,    false};
    if (experts) s.experts = shape[0], s.out = shape[1], s.in = shape[2];
    for (AdapterSlot<D, T>& before : list)
      if (module_of(before.path) == module_of(s.path)) before.stored += ".base_layer";
    list.push_back(std::move(s));
  }
  return list;
}

template <class D, class T>
AdapterDelta<D, T> read_delta(const AdapterSlot<D, T>& slot, const PeftAdapter& adapter, AdapterTensors& tensors) {
  using C = gradient_t<T>;
  AdapterDelta<D, T> d;
  d.slot = slot;
  d.rank = lora_rank(adapter.lora, slot.path);
  d.scale = lora_scale(d.rank, lora_alpha(adapter.lora, slot.path), adapter.lora.rslora);
  const std::string prefix = "base_model.model." + slot.stored;
  constexpr const char* why = "adapter_config.json";
  const bool plain = slot.form == SlotForm::linear && slot.module;
  require<ConfigError>(plain || (!adapter.dora && !adapter.lora_bias), adapter.where, ": ",
                       adapter.dora ? "use_dora" : "lora_bias", " on ", slot.path,
                       " is not supported; it is on linear maps");
  if (slot.form == SlotForm::embedding) {
    d.a = tensors.take<C>(prefix + ".lora_embedding_A", Shape{d.rank, slot.out}, why);
    d.b = tensors.take<C>(prefix + ".lora_embedding_B", Shape{slot.in, d.rank}, why);
    return d;
  }
  d.a = tensors.take<C>(prefix + ".lora_A.weight", Shape{d.rank * slot.experts, slot.in}, why);
  d.b = tensors.take<C>(prefix + ".lora_B.weight", Shape{slot.out, d.rank * slot.experts}, why);
  if (adapter.lora_bias) d.bias = tensors.take<C>(prefix + ".lora_B.bias", Shape{slot.out}, "lora_bias");
  const std::string magnitude = prefix + ".lora_magnitude_vector";
  if (adapter.dora)
    d.magnitude = tensors.take<C>(tensors.holds(magnitude + ".weight") ? magnitude + ".weight" : magnitude,
                                  Shape{slot.out}, "use_dora");
  return d;
}

template <class D, class T>
void plan_deltas(AdapterPlan<D, T>& plan, Decoder<D, T>& model, const PeftAdapter& adapter, AdapterTensors& tensors) {
  std::vector<AdapterSlot<D, T>> slots = targeted_modules(model, adapter);
  std::string left_out;
  bool expert_taken = false;
  const std::vector<AdapterSlot<D, T>> raw = targeted_parameters(model, adapter);
  for (const AdapterSlot<D, T>& s : slots) {
    const bool expert = s.path.find(".experts.") != std::string::npos;
    const std::string prefix = "base_model.model." + s.stored;
    if (s.optional && !tensors.holds(prefix + ".lora_A.weight") && !tensors.holds(prefix + ".lora_B.weight")) {
      if (expert) left_out = s.path;
      continue;
    }
    expert_taken = expert_taken || expert;
    plan.deltas.push_back(read_delta(s, adapter, tensors));
  }
  // Qwen3-MoE is the family in which PEFT takes names of feed-forward maps for the experts'.
  const bool needed = expert_taken || (model.config().family == Family::qwen3_moe && raw.empty());
  require<FormatError>(left_out.empty() || !needed, "[apply_adapter] ", tensors.path(), ": tensor \"base_model.model.",
                       left_out, ".lora_A.weight\" is missing; target_modules of adapter_config.json asks for it");
  for (const AdapterSlot<D, T>& s : raw) plan.deltas.push_back(read_delta(s, adapter, tensors));
}

/// Adds the tensor of a parameter's name, whose module may be wrapped once or twice (base_layer), to what is replaced;
/// false: there is none.
template <class D, class T>
bool plan_replacement(AdapterPlan<D, T>& plan, Parameter<T, D>& p, AdapterTensors& tensors, std::string_view why) {
  const std::string last = p.name.substr(p.name.rfind('.'));
  std::string module = "base_model.model." + module_of(p.name);
  for (int wrapped = 0; wrapped < 3; ++wrapped, module += ".base_layer")
    if (tensors.holds(module + last)) {
      plan.replaced.emplace_back(&p, tensors.take<T>(module + last, p.value.shape(), why));
      return true;
    }
  return false;
}

template <class D, class T>
void plan_replacements(AdapterPlan<D, T>& plan, Decoder<D, T>& model, const PeftAdapter& adapter,
                       AdapterTensors& tensors, bool untied) {
  const std::string base_embedding = "base_model.model.model.embed_tokens.base_layer.weight";
  const auto need = [&](Parameter<T, D>& p, const char* why) {
    require<FormatError>(plan_replacement(plan, p, tensors, why), "[apply_adapter] ", tensors.path(),
                         ": tensor \"base_model.model.", p.name, "\" ", p.value.shape(), " is missing; ", why,
                         " of adapter_config.json asks for it");
  };
  const auto adapted = [&](const std::string& module) {
    return std::any_of(plan.deltas.begin(), plan.deltas.end(),
                       [&](const auto& d) { return d.slot.module && d.slot.path == module; });
  };
  std::vector<bool> used(adapter.saved_modules.size());
  for (Parameter<T, D>* p : model.parameters()) {
    const std::string module = module_of(p->name);
    bool saved = false;
    for (std::size_t i = 0; i < used.size(); ++i)
      if (module.ends_with(adapter.saved_modules[i])) saved = used[i] = true;
    const bool bias =
        p->name.ends_with(".bias") && (adapter.bias == "all" || (adapter.bias == "lora_only" && adapted(module)));
    require<ConfigError>(!saved || !is_expert_tensor(p->name), adapter.where, ": modules_to_save with experts (",
                         p->name, ") is not supported");
    if (saved) need(*p, "modules_to_save");
    else if (bias) need(*p, "bias");
    else if (p->name.ends_with("_bias") && adapter.bias == "all")
      plan_replacement(plan, *p, tensors, "");  // of experts: PEFT does not train them
    else if (p->name != "model.embed_tokens.weight" && p->name != "lm_head.weight") continue;
    else if (!plan_replacement(plan, *p, tensors, "") && untied && p->name == "lm_head.weight" &&
             tensors.holds(base_embedding))  // PEFT stores copies
      plan.replaced.emplace_back(p, tensors.take<T>(base_embedding, p->value.shape(), ""));
  }
  for (std::size_t i = 0; i < used.size(); ++i)
    require<ConfigError>(used[i], adapter.where, ": modules_to_save names ", adapter.saved_modules[i],
                         ", which the model (", model_text(model), ") does not have");
}

/// A slot's W + s B A in place; `weight` [out, in] (or of every expert) is this model's alone.
template <class D, class T>
void add_factors(const AdapterDelta<D, T>& d, T* weight) {
  const AdapterSlot<D, T>& s = d.slot;
  using C = gradient_t<T>;
  const C scale = static_cast<C>(d.scale);
  Tensor<C, D> a(Shape{static_cast<std::int64_t>(d.a.size())}),
      b(Shape{static_cast<std::int64_t>(d.b.size()) / s.experts});
  copy_values(a, d.a);
  if (s.form == SlotForm::embedding) {
    copy_values(b, d.b);
    return add_product<D, T>(true, s.out, s.in, d.rank, scale, a.data(), s.out, b.data(), d.rank, weight);
  }
  std::vector<C> own(static_cast<std::size_t>(s.out * d.rank));
  for (std::int64_t e = 0; e < s.experts; ++e) {
    for (std::size_t i = 0; i < own.size(); ++i)
      own[i] = d.b[i * static_cast<std::size_t>(s.experts) + static_cast<std::size_t>(e)];
    copy_values(b, own);
    add_product<D, T>(false, s.out, s.in, d.rank, scale, b.data(), d.rank, a.data() + e * d.rank * s.in, s.in,
                      weight + e * s.out * s.in);
  }
}

/// DoRA (Liu et al., 2024): rows scaled to the length m.
template <class D, class T>
void scale_rows(const AdapterDelta<D, T>& d, T* weight) {
  const std::size_t width = static_cast<std::size_t>(d.slot.in);
  std::vector<T> host(static_cast<std::size_t>(d.slot.out) * width);
  Memory<D>::to_host(host.data(), weight, host.size() * sizeof(T));
  for (std::size_t row = 0; row < d.magnitude.size(); ++row) {
    double square = 0;
    for (std::size_t i = 0; i < width; ++i)
      square += static_cast<double>(host[row * width + i]) * static_cast<double>(host[row * width + i]);
    const double factor = static_cast<double>(d.magnitude[row]) / std::sqrt(square);
    for (std::size_t i = 0; i < width; ++i)
      host[row * width + i] = static_cast<T>(factor * static_cast<double>(host[row * width + i]));
  }
  Memory<D>::from_host(weight, host.data(), host.size() * sizeof(T));
}

template <class D, class T>
void carry_out(const AdapterPlan<D, T>& plan, Decoder<D, T>& model) {
  std::vector<const Parameter<T, D>*> own;  // their memory is shared with nobody
  const auto make_own = [&](Parameter<T, D>& p) {
    p.drop_master();
    if (std::find(own.rbegin(), own.rend(), &p) == own.rend()) p.value = p.value.clone(), own.push_back(&p);
  };
  for (const auto& [p, values] : plan.replaced) {
    p->value = Tensor<T, D>(p->value.shape());
    copy_values(p->value, values);
    p->drop_master();
    own.push_back(p);
  }
  for (const AdapterDelta<D, T>& d : plan.deltas) {
    const AdapterSlot<D, T>& s = d.slot;
    make_own(*s.parameter);
    T* weight = s.parameter->value.data() + s.offset;
    add_factors(d, weight);
    if (!d.magnitude.empty()) scale_rows(d, weight);
    require<FormatError>(std::isfinite(Kernels<D, T>::sum_squares(weight, s.out * s.in * s.experts)),
                         "[apply_adapter] ", s.path, ": the merged weight is not finite");
    if (d.bias.empty()) continue;
    Parameter<T, D>& bias = *model.find_parameter(s.path + ".bias");
    std::vector<T> sum(d.bias.size());
    Memory<D>::to_host(sum.data(), bias.value.data(), sum.size() * sizeof(T));
    for (std::size_t i = 0; i < sum.size(); ++i)
      sum[i] = static_cast<T>(sum[i] + static_cast<gradient_t<T>>(d.scale) * d.bias[i]);
    make_own(bias);
    copy_values(bias.value, sum);
  }
}

/// The deltas of one tensor of a GGUF adapter's file: one, or one an expert.
template <class D, class T>
void append_gguf_deltas(AdapterPlan<D, T>& plan, Parameter<T, D>& p, const GgufPart& part, GgufAdapterFile& file) {
  const Shape& shape = part.shape;
  const bool stacked = shape.rank() == 3;
  const std::int64_t experts = stacked ? shape[0] : 1, out = stacked ? shape[1] : (shape.rank() == 1 ? 1 : shape[0]),
                     in = shape[shape.rank() - 1];
  // Gate and up of an expert follow each other in the parameter.
  const std::int64_t rows = part.group > 0 ? part.group : out;
  for (std::int64_t e = 0; e < experts; ++e) {
    GgufFactors<gradient_t<T>> f = file.template take<gradient_t<T>>(part, e);
    AdapterDelta<D, T> d;
    d.slot.parameter = &p;
    d.slot.path = d.slot.stored = module_of(p.name);
    d.slot.offset = (e * rows + part.first) * in;
    d.slot.out = out;
    d.slot.in = in;
    d.rank = f.rank;
    d.scale = f.alpha / static_cast<double>(f.rank);
    d.a = std::move(f.a);
    d.b = std::move(f.b);
    plan.deltas.push_back(std::move(d));
  }
}

template <class D, class T>
std::vector<std::string> apply_gguf_adapter(Decoder<D, T>& model, const std::string& path) {
  const DecoderConfig& config = model.config();
  GgufAdapterFile file("[apply_adapter] ", path, config);
  AdapterPlan<D, T> plan;
  for (Parameter<T, D>* p : model.parameters()) {
    const bool experts = is_expert_tensor(p->name) && p->value.shape().rank() == 3;
    if ((p->value.shape().rank() != 2 && !experts) || p->name == "model.embed_tokens.weight") continue;
    for (const GgufPart& part : gguf_parts(p->name, p->value.shape(), config))
      if (part.step == 1 && file.holds(part.name)) append_gguf_deltas(plan, *p, part, file);
  }
  file.require_all_taken(model_text(model));
  require<FormatError>(!plan.deltas.empty(), "[apply_adapter] ", path, ": the file holds no factors");
  carry_out(plan, model);
  return {};
}

}  // namespace detail

template <class D, class T>
std::vector<std::string> apply_adapter(Decoder<D, T>& model, const std::string& directory,
                                       const ApplySettings& settings) {
  const char* const operation = "[apply_adapter] ";
  require<ConfigError>(!model.has_adapter(), operation,
                       "the model has an adapter already: remove_adapter(model) first");
  require<ConfigError>(model.head().packed == nullptr, operation,
                       "the model's matrices stay in their file; load it with decoded weights to merge into them");
  if (is_regular_file(directory)) return detail::apply_gguf_adapter(model, directory);
  std::vector<std::string> notes;
  const std::string config = join_path(directory, "adapter_config.json");
  const auto adapter = detail::read_adapter_config(operation, config, model.config().mixtures() > 0, notes);
  detail::AdapterTensors tensors(operation, directory);
  const bool tied = model.config().tied_head;
  if (tied && (detail::touches_tied_head(adapter) || tensors.holds("base_model.model.lm_head.weight"))) {
    require<ConfigError>(settings.untie_head || adapter.saved_modules.empty(), adapter.where,
                         ": modules_to_save needs a head of its own beside the embedding (untie_head)");
    if (settings.untie_head) model.untie_head();
  }
  detail::AdapterPlan<D, T> plan;
  detail::plan_deltas(plan, model, adapter, tensors);
  detail::plan_replacements(plan, model, adapter, tensors, tied && !model.config().tied_head);
  require<ConfigError>(!plan.deltas.empty() || !plan.replaced.empty(), adapter.where, ": no module of the model (",
                       detail::model_text(model), ") is targeted");
  tensors.require_all_taken(detail::model_text(model));
  for (const auto& d : plan.deltas)
    require<ConfigError>(d.bias.empty() || model.find_parameter(d.slot.path + ".bias") != nullptr, adapter.where,
                         ": lora_bias on ", d.slot.path, ", which has no bias to merge it into");
  std::vector<std::string> paths;
  for (const auto& d : plan.deltas) paths.push_back(d.slot.path);
  detail::note_unmatched_patterns(adapter, paths, notes);
  detail::carry_out(plan, model);
  return notes;
}

KDLIB_NAMESPACE_END

#endif
