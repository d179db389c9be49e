// SPDX-License-Identifier: Apache-2.0
// What add_lora (adapter.hpp) says of settings that fit no map of a model.
#ifndef KDLIB_MODEL_ADAPTER_NAMES_INL_HPP
#define KDLIB_MODEL_ADAPTER_NAMES_INL_HPP

#include <algorithm>
#include <string>
#include <vector>

#include "kdlib/core/error.hpp"
#include "kdlib/core/fields.hpp"
#include "kdlib/model/adapter.hpp"
#include "kdlib/nn/lora.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

KDLIB_FUNC std::string text_list(const std::vector<std::string>& names) {
  std::string all;
  for (const std::string& name : names) all += (all.empty() ? "" : ", ") + name;
  return all;
}

/// The last parts of linear maps' paths, each once: "q_proj".
KDLIB_FUNC std::vector<std::string> module_names(const std::vector<std::string>& paths) {
  std::vector<std::string> names;
  for (const std::string& path : paths) {
    std::string name = path.substr(path.rfind('.') + 1);
    if (std::find(names.begin(), names.end(), name) == names.end()) names.push_back(std::move(name));
  }
  return names;
}

KDLIB_FUNC void check_lora_targets(const LoraSettings& settings, const std::string& where) {
  require<ConfigError>(!settings.targets.empty(), where, "no target modules are given");
  for (const char* path : {"model.embed_tokens", "lm_head"})
    require<ConfigError>(settings.targets.all || !lora_targets(settings, path), where, "LoRA on ", path,
                         " is not supported; the linear maps of the layers are");
}

KDLIB_FUNC void refuse_no_target(const std::vector<std::string>& paths, const LoraSettings& settings,
                                 const std::string& where) {
  const ModuleChoice& t = settings.targets;
  fail<ConfigError>(
      where, "no linear map of the model is targeted by ",
      t.all ? "all of its maps" : (t.pattern.empty() ? text_list(t.names) : "the expression " + t.pattern),
      settings.exclude.empty() ? "" : " without what exclude holds",
      settings.layers.empty() ? "" : " in the layers that are given", "; it has ", text_list(module_names(paths)),
      ", as in model.layers.0.self_attn.q_proj");
}

KDLIB_FUNC void check_lora_names(const std::vector<std::string>& paths, std::int64_t layers,
                                 const LoraSettings& settings, const std::vector<std::string>& targets) {
  const std::vector<std::string> names = module_names(paths);
  const std::string all = text_list(names);
  const auto check = [&](const char* what, const std::vector<std::string>& listed) {
    for (const std::string& name : listed) {
      bool found = false;
      for (const std::string& path : paths) found = found || ends_with_module(path, name);
      require<ConfigError>(found, "[add_lora] ", what, " holds ", name, ", which is no linear map of the model",
                           did_you_mean(name.substr(name.rfind('.') + 1), names), " (it has ", all, ")");
    }
  };
  check("targets", settings.targets.names);
  check("exclude", settings.exclude.names);
  for (const std::int64_t layer : settings.layers)
    require<ConfigError>(layer >= 0 && layer < layers, "[add_lora] layers holds ", layer,
                         "; the model has the layers 0 to ", layers - 1);
  const auto check_patterns = [&](const char* what, const auto& patterns) {
    for (const auto& entry : patterns) {
      bool found = false;
      for (const std::string& path : targets) found = found || fits_pattern(entry.first, path);
      require<ConfigError>(found, "[add_lora] ", what, " has the key ", entry.first, ", which fits no adapted map",
                           did_you_mean(entry.first.substr(entry.first.rfind('.') + 1), names));
    }
  };
  check_patterns("rank_pattern", settings.rank_pattern);
  check_patterns("alpha_pattern", settings.alpha_pattern);
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
