// SPDX-License-Identifier: Apache-2.0
// Bodies of recipe/inputs.hpp.
#ifndef KDLIB_RECIPE_INPUTS_INL_HPP
#define KDLIB_RECIPE_INPUTS_INL_HPP

#include "kdlib/core/stop.hpp"
#include "kdlib/io/content_hash.hpp"
#include "kdlib/io/json.hpp"
#include "kdlib/io/json_writer.hpp"
#include "kdlib/io/paths.hpp"
#include "kdlib/recipe/inputs.hpp"
#include "kdlib/recipe/model_files.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_FUNC std::vector<std::pair<std::string, std::string>> recipe_inputs(const RecipeSettings& s) {
  std::vector<std::pair<std::string, std::string>> out;
  const auto add = [&out](const std::string& name, const std::string& path) {
    if (!path.empty()) out.emplace_back(name, path);
  };
  if (!s.models.is_remote()) add("teacher", s.models.teacher);
  for (const RecipeNamedTeacher& teacher : s.models.named_teachers())
    if (!teacher.is_remote()) add("teachers " + teacher.name, teacher.place);
  add("student", s.models.student);
  add("teacher-adapter", s.models.teacher_adapter);
  add("student-adapter", s.models.student_adapter);
  add("cache", s.models.cache.folder);
  add("validation-cache", s.models.cache.validation);
  add("prompts", s.text.prompts.path);
  add("data", s.text.data.path);
  add("validation", s.text.validation.path);
  for (std::size_t i = 0; i < s.text.tools.size(); ++i)  // files of answers
    if (s.text.tools[i] != "calculator") add(concat("tools-", i + 1), s.text.tools[i]);
  add("groups", s.training.groups_file);
  add("stages", s.training.stages_file);
  return out;
}

KDLIB_FUNC void check_inputs_are_there(const RecipeSettings& s) {
  for (const RecipeNamedTeacher& teacher : s.models.named_teachers())
    require<IoError>(teacher.is_remote() || path_exists(teacher.place), "[distil] --teachers ", teacher.name, "=",
                     teacher.place, " is not there: give a model's directory, a GGUF file or the folder of a cache");
  for (const auto& [name, path] : recipe_inputs(s)) {
    const std::string option = "[distil] --" + name;
    if (name == "teacher-adapter" && s.models.on_ranks) continue;  // other ranks read it
    if (name == "teacher" || name == "student")
      require_given_file(option, path, "a Hugging Face directory or a GGUF file");
    else if (name.ends_with("-adapter"))
      require_given_file(option, path, "the folder of a LoRA adapter in PEFT's form");
    else if (name.ends_with("cache")) require_given_file(option, path, "the folder of a cache that cache_logits made");
    else if (name == "prompts" || name == "data" || name == "validation")
      require_given_file(option, path, "a file of JSON lines");
  }
}

KDLIB_FUNC SettingsList input_hashes(const RecipeSettings& settings) {
  SettingsList out;
  for (const auto& [name, path] : recipe_inputs(settings)) {
    check_stop();
    try {
      out.emplace_back(name, content_hash(path));
    } catch (const IoError&) {
      continue;  // loading fails, too, and knows what it needs
    }
  }
  return out;
}

KDLIB_FUNC std::string inputs_text(const SettingsList& hashes) {
  JsonWriter json(JsonStyle{2, NonFinite::refuse});
  json.begin_object();
  for (const auto& [name, hash] : hashes) json.member(name, hash);
  return json.end_object().text();
}

KDLIB_FUNC void check_same_inputs(const std::string& path, const SettingsList& hashes, const RecipeSettings& settings) {
  const Json before = Json::parse_file(path);
  const auto paths = recipe_inputs(settings);
  for (const auto& [name, hash] : hashes) {
    const auto old = before.find(name);
    if (!old || old->as_string() == hash) continue;
    std::string input = name;
    for (const auto& [key, where] : paths)
      if (key == name) input += " " + where;
    const bool model = name.rfind("teacher", 0) == 0 || name.rfind("student", 0) == 0;
    fail<ConfigError>("[distil] --", input, " has other ", model ? "weights or files" : "text",
                      " than when this run began (", path,
                      "): restore it, use another --out, or start over with "
                      "--resume no");
  }
}

KDLIB_NAMESPACE_END

#endif
