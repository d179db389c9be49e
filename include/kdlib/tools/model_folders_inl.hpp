// SPDX-License-Identifier: Apache-2.0
// Bodies of model_folders.hpp.
#ifndef KDLIB_TOOLS_MODEL_FOLDERS_INL_HPP
#define KDLIB_TOOLS_MODEL_FOLDERS_INL_HPP

#include "kdlib/core/settings_error.hpp"
#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/json.hpp"
#include "kdlib/io/paths.hpp"
#include "kdlib/recipe/model_files.hpp"
#include "kdlib/recipe/run_outputs.hpp"
#include "kdlib/tools/model_folders.hpp"
#include "kdlib/tools/output_lock.hpp"
#include "kdlib/tools/yaml_settings.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {

/// The model that adapter/ of a run belongs to.
KDLIB_TOOLS_FUNC std::string base_of_run(const std::string& run, const std::string& adapter) {
  const std::string base = join_path(run, "base");
  if (path_exists(join_path(base, "config.json"))) return base;
  for (const FileSetting& s : read_yaml_settings(join_path(run, "config.yaml")))
    require<ConfigError>(s.key != "quantize" || s.values == std::vector<std::string>{"none"}, "[model] ", run,
                         " is a run of distil whose rounded base was not written (", base,
                         " is missing): distil it again, or name the model that the adapter belongs to");
  const Json config = Json::parse_file(join_path(adapter, "adapter_config.json"));
  std::string named(config.at("base_model_name_or_path").as_string());
  require<ConfigError>(path_exists(named), "[model] ", run, " was trained on ", named,
                       named.starts_with('/') ? ", which is not there" : ", which is not there, seen from this folder",
                       ": name the model, and ", adapter, " as its adapter");
  return named;
}

/// The adapter of a run that trained it beside rounded weights undoes a rounding that other weights do not have.
KDLIB_TOOLS_FUNC void check_adapter_base(const std::string& model, const std::string& adapter) {
  const std::string run = parent_path(adapter), base = join_path(run, "base");
  if (adapter.empty() || !path_exists(join_path(run, "config.yaml")) || !path_exists(join_path(base, "config.json")))
    return;
  require<SettingsError>(same_place(model, base), "[model] the adapter ", adapter,
                         " was trained beside the rounded weights of ", base,
                         ", and what it undoes of the rounding is not in ", model, ": name ", base, " as the model");
}

/// What a run exported and somebody changed is another model than the run's result tells of.
KDLIB_TOOLS_FUNC void check_exported(const std::string& run) {
  for (const std::string& file : RunOutputs::read(run).damage().changed)
    require<ConfigError>(!file.starts_with("adapter/") && !file.starts_with("base/") && !file.starts_with("model/"),
                         "[model] ", join_path(run, file),
                         " has other bytes than the run wrote (outputs.json): put the "
                         "run's own back, or name the model and the adapter that are meant");
}

}  // namespace detail

KDLIB_TOOLS_FUNC ModelPlace find_model(const std::string& path, const std::string& adapter) {
  const auto inside = [&](const char* name) { return join_path(path, name); };
  if (!is_directory(path) || path_exists(inside("config.json")) || !path_exists(inside("config.yaml")))
    return detail::check_adapter_base(path, adapter), ModelPlace{path, adapter};
  require<ConfigError>(path_exists(inside("result.json")), "[model] ", path,
                       " is a run of distil that is not finished (result.json is missing): end it, or name its student "
                       "and, as --adapter, the adapter/ of one of its checkpoints");
  detail::check_exported(path);
  if (!path_exists(join_path(inside("adapter"), "adapter_config.json"))) return {inside("model"), adapter};
  require<SettingsError>(adapter.empty(), "[model] ", path, " is a run of distil with an adapter of its own; name ",
                         detail::base_of_run(path, inside("adapter")), " as the model to use ", adapter);
  return {detail::base_of_run(path, inside("adapter")), inside("adapter")};
}

KDLIB_TOOLS_FUNC ModelPlace find_model_there(const std::string& path, const std::string& adapter) {
  ModelPlace place = find_model(path, adapter);
  require_model_path(place.model);
  if (!place.adapter.empty())
    require_given_file("[model] the adapter", place.adapter, "the folder of a LoRA adapter in PEFT's form");
  return place;
}

KDLIB_TOOLS_FUNC std::string find_whole_model(const std::string& path) {
  const ModelPlace place = find_model(path);
  require<SettingsError>(place.adapter.empty(), "[model] ", path,
                         " is a run of distil whose result is an adapter, and a model alone is needed here: convert "
                         "--model ",
                         path, " --merge --to hf --out DIR makes one of both");
  return place.model;
}

KDLIB_TOOLS_FUNC void models_of_runs(RecipeModels& m) {
  for (std::string& named : m.teachers)
    if (const std::size_t equals = named.find('=');
        equals != std::string::npos && !names_servers(named.substr(equals + 1)))
      named = named.substr(0, equals + 1) + find_whole_model(named.substr(equals + 1));
  const ModelPlace teacher = find_model(m.teacher, m.teacher_adapter),
                   student = find_model(m.student_path(), m.student_adapter);
  require<SettingsError>(teacher.adapter.empty() || teacher.model != join_path(m.teacher, "base"),
                         "[distil] --teacher ", m.teacher,
                         " is a run whose adapter stands beside rounded weights, which it cannot be merged "
                         "into: convert --model ",
                         m.teacher, " --merge --to hf --out DIR makes a model of it");
  m.teacher = teacher.model, m.teacher_adapter = teacher.adapter;
  if (m.student.empty()) return;
  m.student = student.model, m.student_adapter = student.adapter;
}

KDLIB_NAMESPACE_END

#endif
