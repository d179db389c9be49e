// SPDX-License-Identifier: Apache-2.0
// Bodies of tools/stages_file.hpp.
#ifndef KDLIB_TOOLS_STAGES_FILE_INL_HPP
#define KDLIB_TOOLS_STAGES_FILE_INL_HPP

#include "kdlib/recipe/settings.hpp"
#include "kdlib/tools/stages_file.hpp"
#include "kdlib/tools/yaml_file.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// `groups` and `default_rate` of a mapping.
KDLIB_TOOLS_FUNC RateGroups rate_groups(const YamlFile& file, const YAML::Node& node) {
  RateGroups out;
  if (const YAML::Node rate = node["default_rate"]) out.default_rate = file.number<double>(rate, "default_rate");
  const YAML::Node list = node["groups"];
  if (!list) return out;
  require<UsageError>(list.IsSequence(), file.place(list), ": groups must be a list of {pattern: ..., rate: ...}");
  for (const auto& entry : list) {
    file.check_keys(entry, "a group", {"pattern", "rate"});
    require<UsageError>(entry["pattern"] && entry["rate"], file.place(entry), ": a group needs pattern and rate");
    out.list.push_back({file.text(entry["pattern"], "pattern"), file.number<double>(entry["rate"], "rate")});
  }
  return out;
}

KDLIB_TOOLS_FUNC RecipeStage recipe_stage(const YamlFile& file, const YAML::Node& node) {
  file.check_keys(node, "a stage",
                  {"name", "steps", "epochs", "groups", "default_rate", "learning_rate", "schedule", "warmup", "text"});
  RecipeStage out;
  if (node["name"]) out.name = file.text(node["name"], "name");
  if (node["steps"]) out.steps = file.number<std::int64_t>(node["steps"], "steps");
  if (node["epochs"]) out.epochs = file.number<double>(node["epochs"], "epochs");
  out.groups = rate_groups(file, node);
  if (node["learning_rate"]) out.learning_rate = file.number<double>(node["learning_rate"], "learning_rate");
  if (node["warmup"]) out.warmup = file.number<std::int64_t>(node["warmup"], "warmup");
  if (node["schedule"])
    out.schedule =
        static_cast<RecipeSchedule>(file.word(node["schedule"], "schedule", RecipeWords<RecipeSchedule>::list));
  constexpr const char* texts[] = {"go_on", "restart"};
  if (node["text"]) out.restart_text = file.word(node["text"], "text", texts) == 1;
  return out;
}

}  // namespace detail

KDLIB_TOOLS_FUNC RateGroups read_groups_file(const std::string& path) {
  const detail::YamlFile file(path);
  const YAML::Node root = file.load();
  file.check_keys(root, "the file", {"groups", "default_rate"});
  return detail::rate_groups(file, root);
}

KDLIB_TOOLS_FUNC std::vector<RecipeStage> read_stages_file(const std::string& path) {
  const detail::YamlFile file(path);
  const YAML::Node root = file.load();
  file.check_keys(root, "the file", {"stages"});
  const YAML::Node list = root["stages"];
  require<UsageError>(list && list.IsSequence() && list.size() > 0, path, ": stages must be a list of stages");
  std::vector<RecipeStage> out;
  for (const auto& entry : list) out.push_back(detail::recipe_stage(file, entry));
  return out;
}

KDLIB_NAMESPACE_END

#endif
