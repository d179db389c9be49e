// SPDX-License-Identifier: Apache-2.0
// load_adapter of peft_adapter.hpp.
#ifndef KDLIB_CHECKPOINT_PEFT_LOAD_INL_HPP
#define KDLIB_CHECKPOINT_PEFT_LOAD_INL_HPP

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kdlib/checkpoint/gguf_adapter.hpp"
#include "kdlib/checkpoint/peft_adapter.hpp"
#include "kdlib/checkpoint/peft_parts.hpp"
#include "kdlib/io/paths.hpp"
#include "kdlib/io/safetensors.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

template <class T>
std::vector<T> AdapterTensors::take(const std::string& name, const Shape& shape, std::string_view why) {
  const TensorInfo& t = take_info(name, shape, why);
  std::vector<T> values = read_as<T>(t);
  for (const T x : values)
    if (!std::isfinite(x)) refuse_value(t);
  return values;
}

template <class D, class T>
std::string model_text(const Decoder<D, T>& model) {
  return model_text(model.config());
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
  detail::note_unmatched_patterns(adapter, detail::linear_paths(targets), notes);
  return notes;
}

KDLIB_NAMESPACE_END

#endif
