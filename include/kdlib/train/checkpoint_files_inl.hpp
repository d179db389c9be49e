// SPDX-License-Identifier: Apache-2.0
// The files of a checkpoint: tensors, state, elapsed time and checksums, written and read.
#ifndef KDLIB_TRAIN_CHECKPOINT_FILES_INL_HPP
#define KDLIB_TRAIN_CHECKPOINT_FILES_INL_HPP

#include <algorithm>

#include "kdlib/io/checksum.hpp"
#include "kdlib/io/json.hpp"
#include "kdlib/io/json_writer.hpp"
#include "kdlib/io/safetensors.hpp"
#include "kdlib/io/safetensors_writer.hpp"
#include "kdlib/train/state.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {
inline constexpr std::int64_t checkpoint_format = 2;
inline constexpr const char *checksums_name = "checksums.json", *elapsed_name = "elapsed.json";

KDLIB_FUNC void write_tensors(const std::string& path, const std::vector<HostTensor>& tensors,
                              const SettingsList& metadata) {
  SafetensorsWriter writer(path);
  for (const auto& [key, value] : metadata) writer.metadata(key, value);
  for (const HostTensor& t : tensors)
    writer.add(t.name, t.dtype, t.shape,
               std::span<const std::byte>(static_cast<const std::byte*>(t.data.get()), t.bytes));
  writer.commit();
}

KDLIB_FUNC std::vector<HostTensor> read_tensors(const std::string& path, SettingsList* metadata = nullptr) {
  const auto file = std::make_shared<SafetensorsFile>(path);
  std::vector<HostTensor> out;
  for (const TensorInfo& info : file->tensors())
    out.push_back(
        {info.name, info.dtype, info.shape(), std::shared_ptr<const void>(file, info.data.data()), info.data.size()});
  if (metadata != nullptr) metadata->assign(file->metadata().begin(), file->metadata().end());
  return out;
}

KDLIB_FUNC void write_list(JsonWriter& json, const char* name, const SettingsList& list) {
  json.key(name).begin_object();
  for (const auto& [key, value] : list) json.member(key, value);
  json.end_object();
}

KDLIB_FUNC SettingsList read_list(const Json& object) {
  SettingsList list;
  for (const auto& member : object.members())
    list.emplace_back(std::string(member.key), std::string(member.value.as_string()));
  return list;
}

KDLIB_FUNC std::string state_text(const TrainState& state) {
  JsonWriter json(JsonStyle{2, NonFinite::refuse});
  json.begin_object()
      .member("format", checkpoint_format)
      .member("stage", state.stage)
      .member("first_step", state.first_step)
      .member("finished", state.finished)
      .member("finish_reason", state.finish_reason);
  json.member("step", state.step)
      .member("skipped_steps", state.skipped_steps)
      .member("optimizer_steps", state.optimizer_steps);
  json.member("tokens", state.tokens).member("loss", state.loss);
  json.member("best_step", state.best_step).member("best_value", state.best_value);
  json.member("evaluated_step", state.evaluated_step).member("evaluation_pending", state.evaluation_pending);
  json.member("source_cursor", state.source_cursor);
  write_list(json, "settings", state.settings);
  write_list(json, "environment", state.environment);
  json.end_object();
  return json.text();
}

/// Seconds, with a checksum of their own: checksums.json must be the same for two equal runs.
KDLIB_FUNC std::string elapsed_text(double seconds) {
  JsonWriter json;
  const std::string text = setting_text(seconds);
  return json.begin_object().member("seconds", seconds).member("checksum", checksum_text(text)).end_object().text();
}
KDLIB_FUNC double read_elapsed(const std::string& folder) {
  const std::string path = join_path(folder, elapsed_name);
  const Json json = Json::parse_file(path);
  const double seconds = json.at("seconds").as_double();
  require<FormatError>(json.at("checksum").as_string() == checksum_text(setting_text(seconds)), path,
                       ": its checksum is not that of its number");
  return seconds;
}

/// Paths of all files below a folder, relative to it, sorted.
KDLIB_FUNC void list_files(const std::string& folder, const std::string& prefix, std::vector<std::string>& out) {
  for (const std::string& name : list_directory(folder)) {
    const std::string path = join_path(folder, name);
    if (is_directory(path)) list_files(path, prefix + name + "/", out);
    else out.push_back(prefix + name);
  }
}

KDLIB_FUNC void write_checksums(const std::string& folder) {
  std::vector<std::string> names;
  list_files(folder, "", names);
  JsonWriter json(JsonStyle{2, NonFinite::refuse});
  json.begin_object();
  for (const std::string& name : names)
    if (name != elapsed_name) json.member(name, file_checksum(join_path(folder, name)));
  write_file_atomically(join_path(folder, checksums_name), json.end_object().text());
}

/// FormatError, naming the file, where one is missing or has other bytes than were written.
KDLIB_FUNC void verify_checksums(const std::string& folder) {
  const Json sums = Json::parse_file(join_path(folder, checksums_name));
  for (const auto& member : sums.members()) {
    const std::string path = join_path(folder, std::string(member.key));
    require<FormatError>(is_regular_file(path), path, " is missing");
    require<FormatError>(file_checksum(path) == member.value.as_string(), path,
                         ": its bytes are not those that were written");
  }
  require<FormatError>(sums.contains("state.json"), join_path(folder, checksums_name), " does not name state.json");
}

/// Another version's checkpoint is not a damaged one, and going back behind it would be wrong.
KDLIB_FUNC void check_format(const std::string& folder) {
  const Json json = Json::parse_file(join_path(folder, "state.json"));
  const std::int64_t format = json.at("format").as_int();
  require<ConfigError>(format == checkpoint_format || path_exists(join_path(folder, checksums_name)), "[resume] ",
                       join_path(folder, "state.json"), ": format ", format, " is not ", checkpoint_format,
                       ": this checkpoint was written by another version of kdlib; use that version, or start again");
}

/// Of the best state in memory: step, value, and names, shapes and bytes of its parameters. Their order does not
/// matter: a file holds them sorted by name, a model in the order of its layers.
KDLIB_FUNC std::string best_checksum(const TrainState& state) {
  std::vector<std::string> lines;
  for (const HostTensor& t : state.parameters)
    lines.push_back(concat(t.name, " ", static_cast<int>(t.dtype), " ", t.shape, " ",
                           checksum_text(std::span(static_cast<const std::byte*>(t.data.get()), t.bytes)), "\n"));
  std::sort(lines.begin(), lines.end());
  std::string all = concat(state.best_step, " ", setting_text(state.best_value), "\n");
  for (const std::string& line : lines) all += line;
  return checksum_text(all);
}

KDLIB_FUNC TrainState read_state(const std::string& folder) {
  const Json json = Json::parse_file(join_path(folder, "state.json"));
  TrainState state;
  state.stage = std::string(json.at("stage").as_string());
  state.first_step = json.at("first_step").as_int();
  state.finished = json.at("finished").as_bool();
  state.finish_reason = std::string(json.at("finish_reason").as_string());
  state.step = json.at("step").as_int();
  state.skipped_steps = json.at("skipped_steps").as_int();
  state.optimizer_steps = json.at("optimizer_steps").as_int();
  state.tokens = json.at("tokens").as_double();
  state.loss = json.at("loss").as_double();
  state.evaluated_step = json.at("evaluated_step").as_int();
  state.evaluation_pending = json.at("evaluation_pending").as_bool();
  state.best_step = json.at("best_step").as_int();
  state.best_value = json.at("best_value").as_double();
  state.source_cursor = std::string(json.at("source_cursor").as_string());
  state.settings = read_list(json.at("settings"));
  state.environment = read_list(json.at("environment"));
  state.seconds = read_elapsed(folder);
  state.parameters = read_tensors(join_path(folder, "parameters.safetensors"));
  state.moments = read_tensors(join_path(folder, "optimizer.safetensors"));
  return state;
}

}  // namespace detail

KDLIB_NAMESPACE_END

#endif
