// SPDX-License-Identifier: Apache-2.0
// Bodies of recipe/run_outputs.hpp.
#ifndef KDLIB_RECIPE_RUN_OUTPUTS_INL_HPP
#define KDLIB_RECIPE_RUN_OUTPUTS_INL_HPP

#include <sys/stat.h>

#include <algorithm>

#include "kdlib/core/settings_error.hpp"
#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/checksum.hpp"
#include "kdlib/io/content_hash.hpp"
#include "kdlib/io/json.hpp"
#include "kdlib/io/json_writer.hpp"
#include "kdlib/io/utf8.hpp"
#include "kdlib/recipe/run_outputs.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

inline constexpr const char* outputs_format = "kdlib run outputs 1";

KDLIB_FUNC bool name_is_taken(const std::string& path) {
  struct stat status {};
  return ::lstat(path.c_str(), &status) == 0;
}

/// True for a folder that is no link to one.
KDLIB_FUNC bool is_own_directory(const std::string& path) {
  struct stat status {};
  return ::lstat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

/// Every file of `name` by its path in the folder; links stand as they are.
KDLIB_FUNC void list_own_files(const std::string& folder, const std::string& name, std::vector<std::string>& out) {
  const std::string path = join_path(folder, name);
  if (!is_own_directory(path)) {
    if (name_is_taken(path)) out.push_back(name);
    return;
  }
  for (const std::string& inside : list_directory(path)) list_own_files(folder, name + "/" + inside, out);
}

/// True for "teacher_text-<number>.jsonl".
KDLIB_FUNC bool is_written_text(const std::string& name) {
  const std::string front = "teacher_text-", back = ".jsonl";
  return name.size() > front.size() + back.size() && name.starts_with(front) && name.ends_with(back) &&
         std::all_of(name.begin() + static_cast<std::ptrdiff_t>(front.size()),
                     name.end() - static_cast<std::ptrdiff_t>(back.size()),
                     [](char c) { return c >= '0' && c <= '9'; });
}

/// True for "12", "12.partial", "12.damaged", "12.old.partial": what a store of checkpoints makes.
KDLIB_FUNC bool is_checkpoint_name(const std::string& name) {
  const std::size_t end = std::min(name.find_first_not_of("0123456789"), name.size());
  const std::string rest = name.substr(end);
  return end > 0 && (rest.empty() || rest == ".partial" || rest == ".damaged" || rest == ".old.partial");
}

}  // namespace detail

KDLIB_FUNC const std::vector<std::string>& run_names() {
  static const std::vector<std::string> names{"result.json",     "report.html", "before.json",  "metrics.jsonl",
                                              "checkpoints",     "best",        "text",         "adapter",
                                              "validation_text", "model",       "base",         "packed",
                                              "model.gguf",      "inputs.json", "outputs.json", "config.yaml"};
  return names;
}

KDLIB_FUNC std::vector<std::string> names_while_training(const RecipeSettings& s) {
  std::vector<std::string> names{"outputs.json",  "config.yaml", "inputs.json", "before.json",
                                 "metrics.jsonl", "checkpoints", "best"};
  if (s.models.taught() && s.text.writes() && s.text.lambda < 1) names.emplace_back("text");
  if (s.models.taught() && s.text.validation_share == 0) names.emplace_back("validation_text");
  if (s.student.trains == RecipeTrains::lora && s.student.rounded) names.emplace_back("base");
  return names;
}

KDLIB_FUNC std::vector<std::string> exported_names(const RecipeSettings& s) {
  const bool lora = s.student.trains == RecipeTrains::lora;
  std::vector<std::string> names;
  if (lora) names.emplace_back("adapter");
  if (!lora || s.student.merge) names.emplace_back("model");
  if (!lora && s.student.rounded) names.emplace_back("packed");
  if (s.output.gguf) names.emplace_back("model.gguf");
  return names;
}

KDLIB_FUNC std::vector<std::string> names_written(const RecipeSettings& s) {
  std::vector<std::string> names = names_while_training(s);
  for (std::string& name : exported_names(s)) names.push_back(std::move(name));
  for (const char* name : {"result.json", "report.html"}) names.emplace_back(name);
  return names;
}

KDLIB_FUNC RunOutputs RunOutputs::read(const std::string& folder) {
  RunOutputs out(folder);
  const std::string path = join_path(folder, "outputs.json");
  if (!detail::name_is_taken(path)) return out;
  const Json json = Json::parse_file(path);
  require<FormatError>(json.is_object() && json.string_or("format", "") == detail::outputs_format, path,
                       ": no list of what a run of distil wrote");
  for (const Json& name : json.at("written")) out.names_.emplace_back(name.as_string());
  const auto known = [](const std::string& name) {
    return std::find(run_names().begin(), run_names().end(), name) != run_names().end();
  };
  for (const std::string& name : out.names_)
    require<FormatError>(known(name), path, ": ", printable(name), " is no name that a run of distil writes");
  for (const JsonMember& file : json.at("checksums").members())
    out.checksums_.emplace_back(file.key, file.value.as_string());
  out.strangers_ = out.foreign();
  return out;
}

KDLIB_FUNC bool RunOutputs::lists(const std::string& name) const {
  return std::find(names_.begin(), names_.end(), name) != names_.end();
}

KDLIB_FUNC void RunOutputs::write() const {
  JsonWriter json(JsonStyle{2, NonFinite::refuse});
  json.begin_object().member("format", detail::outputs_format).member("written", names_);
  json.key("checksums").begin_object();
  for (const auto& [path, checksum] : checksums_) json.member(path, checksum);
  write_file_atomically(join_path(folder_, "outputs.json"), json.end_object().end_object().text());
}

KDLIB_FUNC void RunOutputs::claim(const std::vector<std::string>& names) {
  bool added = false;
  for (const std::string& name : names) {
    if (lists(name)) continue;
    require<SettingsError>(!detail::name_is_taken(join_path(folder_, name)), "[distil] ", join_path(folder_, name),
                           " is there, and no run of distil wrote it: it is not replaced or removed; move it away and "
                           "give the same command again");
    names_.push_back(name);
    added = true;
  }
  if (added) write();
}

KDLIB_FUNC void RunOutputs::record(const std::vector<std::string>& names) {
  for (const std::string& name : names) {
    std::erase_if(checksums_,
                  [&name](const auto& entry) { return entry.first == name || entry.first.starts_with(name + "/"); });
    std::vector<std::string> files;
    detail::list_own_files(folder_, name, files);
    for (const std::string& file : files)
      if (is_regular_file(join_path(folder_, file)) &&
          std::find(strangers_.begin(), strangers_.end(), file) == strangers_.end())
        checksums_.emplace_back(file, file_checksum(join_path(folder_, file)));
  }
  std::sort(checksums_.begin(), checksums_.end());
  write();
}

KDLIB_FUNC void RunOutputs::forget_missing() {
  const auto gone = [this](const std::string& name) {
    return name != "outputs.json" && !detail::name_is_taken(join_path(folder_, name));
  };
  const auto of_gone = [&](const auto& entry) { return gone(entry.first.substr(0, entry.first.find('/'))); };
  const std::size_t files = std::erase_if(checksums_, of_gone);
  if (std::erase_if(names_, gone) + files > 0) write();
}

KDLIB_FUNC void RunOutputs::remove_all() {
  for (const std::string& name : names_)
    if (name != "config.yaml" && name != "outputs.json") remove_tree(join_path(folder_, name));
  checksums_.clear();
  forget_missing();
}

KDLIB_FUNC RunOutputs::Damage RunOutputs::damage() const {
  Damage out;
  for (const auto& [file, checksum] : checksums_) {
    const std::string path = join_path(folder_, file);
    if (!path_exists(path)) out.missing.push_back(file);
    else if (!is_regular_file(path) || detail::remembered_hash(file_checksum, path) != checksum)
      out.changed.push_back(file);
  }
  return out;
}

KDLIB_FUNC void RunOutputs::add_foreign(const std::string& name, std::vector<std::string>& found) const {
  const std::string folder = join_path(folder_, name);
  if (!detail::is_own_directory(folder)) return;
  const auto top = [&](auto&& own) {
    for (const std::string& inside : list_directory(folder))
      if (!own(inside) && detail::pid_of_temporary(inside) == 0) found.push_back(name + "/" + inside);
  };
  if (name == "checkpoints") return top(detail::is_checkpoint_name);
  if (name == "text" || name == "validation_text") return top(detail::is_written_text);
  if (name == "best")
    return top([](const std::string& n) { return n == "parameters.safetensors" || n == "adapter" || n == "model"; });
  const auto recorded = [this](auto&& fits) {
    return std::any_of(checksums_.begin(), checksums_.end(), [&](const auto& entry) { return fits(entry.first); });
  };
  if (!recorded([&](const std::string& file) { return file.starts_with(name + "/"); })) return;  // a killed run's
  std::vector<std::string> files;
  detail::list_own_files(folder_, name, files);
  for (const std::string& file : files)
    if (detail::pid_of_temporary(file) == 0 && !recorded([&](const std::string& own) { return own == file; }))
      found.push_back(file);
}

KDLIB_FUNC std::vector<std::string> RunOutputs::foreign() const {
  std::vector<std::string> found;
  for (const std::string& name : names_) add_foreign(name, found);
  return found;
}

KDLIB_NAMESPACE_END

#endif
