// SPDX-License-Identifier: Apache-2.0
// Bodies of tools/stages_file.hpp.
#ifndef KDLIB_TOOLS_STAGES_FILE_INL_HPP
#define KDLIB_TOOLS_STAGES_FILE_INL_HPP

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <initializer_list>

#include "kdlib/tools/stages_file.hpp"
#include "kdlib/tools/yaml_settings.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Values of a YAML file with the place that messages name.
class StageYaml {
 public:
  explicit StageYaml(std::string path) : path_(std::move(path)) {}

  YAML::Node load() const {
    const std::string text = read_small_file(path_);
    try {
      return YAML::Load(text);
    } catch (const YAML::Exception& error) {
      fail<UsageError>(path_, ":", error.mark.line + 1, ": not valid YAML: ", error.msg);
    }
  }
  std::string place(const YAML::Node& node) const { return concat(path_, ":", node.Mark().line + 1); }

  /// The node is a mapping of these keys alone, each once.
  void check_keys(const YAML::Node& node, const char* what, std::initializer_list<const char*> known) const {
    require<UsageError>(node.IsMap(), place(node), ": ", what, " must be a mapping");
    std::vector<std::string> seen;
    for (const auto& entry : node) {
      const std::string key = entry.first.IsScalar() ? entry.first.Scalar() : std::string("[...]");
      std::string list;
      for (const char* name : known) list += concat(list.empty() ? "" : ", ", name);
      require<UsageError>(std::find(known.begin(), known.end(), key) != known.end(), place(entry.first), ": ", what,
                          " has the key ", key, "; it can have ", list);
      require<UsageError>(std::find(seen.begin(), seen.end(), key) == seen.end(), place(entry.first), ": the key ", key,
                          " is given twice");
      seen.push_back(key);
    }
  }
  std::string text(const YAML::Node& node, const char* key) const {
    require<UsageError>(node.IsScalar(), place(node), ": ", key, " must be one value");
    return node.Scalar();
  }
  template <class N>
  N number(const YAML::Node& node, const char* key) const {
    N value{};
    require<UsageError>(node.IsScalar() && YAML::convert<N>::decode(node, value), place(node), ": ", key, " is ",
                        node.IsScalar() ? node.Scalar() : std::string("[...]"), "; it must be a ",
                        std::is_integral_v<N> ? "whole number" : "number");
    return value;
  }
  bool flag(const YAML::Node& node, const char* key) const {
    bool value = false;
    require<UsageError>(node.IsScalar() && YAML::convert<bool>::decode(node, value), place(node), ": ", key,
                        " must be true or false");
    return value;
  }
  /// `groups` and `default_rate` of a mapping.
  RateGroups groups(const YAML::Node& node) const {
    RateGroups out;
    if (const YAML::Node rate = node["default_rate"]) out.default_rate = number<double>(rate, "default_rate");
    const YAML::Node list = node["groups"];
    if (!list) return out;
    require<UsageError>(list.IsSequence(), place(list), ": groups must be a list of {pattern: ..., rate: ...}");
    for (const auto& entry : list) {
      check_keys(entry, "a group", {"pattern", "rate"});
      require<UsageError>(entry["pattern"] && entry["rate"], place(entry), ": a group needs pattern and rate");
      out.list.push_back({text(entry["pattern"], "pattern"), number<double>(entry["rate"], "rate")});
    }
    return out;
  }
  RecipeStage stage(const YAML::Node& node) const {
    check_keys(node, "a stage",
               {"name", "steps", "epochs", "groups", "default_rate", "learning_rate", "schedule", "warmup", "text"});
    RecipeStage out;
    if (node["name"]) out.name = text(node["name"], "name");
    if (node["steps"]) out.steps = number<std::int64_t>(node["steps"], "steps");
    if (node["epochs"]) out.epochs = number<double>(node["epochs"], "epochs");
    out.groups = groups(node);
    if (node["learning_rate"]) out.learning_rate = number<double>(node["learning_rate"], "learning_rate");
    if (node["warmup"]) out.warmup = number<std::int64_t>(node["warmup"], "warmup");
    if (node["schedule"])
      out.schedule = static_cast<RecipeSchedule>(word(node["schedule"], "schedule", {"constant", "linear", "cosine"}));
    if (node["text"]) out.restart_text = word(node["text"], "text", {"go_on", "restart"}) == 1;
    return out;
  }

 private:
  int word(const YAML::Node& node, const char* key, std::initializer_list<const char*> words) const {
    const std::string value = text(node, key);
    std::string list;
    int at = 0;
    for (const char* known : words) {
      if (value == known) return at;
      list += concat(list.empty() ? "" : ", ", known);
      ++at;
    }
    fail<UsageError>(place(node), ": ", key, " is ", value, "; it must be one of ", list);
  }

  std::string path_;
};

}  // namespace detail

KDLIB_TOOLS_FUNC RateGroups read_groups_file(const std::string& path) {
  const detail::StageYaml file(path);
  const YAML::Node root = file.load();
  file.check_keys(root, "the file", {"groups", "default_rate"});
  return file.groups(root);
}

KDLIB_TOOLS_FUNC std::vector<RecipeStage> read_stages_file(const std::string& path) {
  const detail::StageYaml file(path);
  const YAML::Node root = file.load();
  file.check_keys(root, "the file", {"stages"});
  const YAML::Node list = root["stages"];
  require<UsageError>(list && list.IsSequence() && list.size() > 0, path, ": stages must be a list of stages");
  std::vector<RecipeStage> out;
  for (const auto& entry : list) out.push_back(file.stage(entry));
  return out;
}

KDLIB_NAMESPACE_END

#endif
