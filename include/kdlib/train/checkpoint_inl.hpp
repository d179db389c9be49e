// SPDX-License-Identifier: Apache-2.0
// Bodies of checkpoint.hpp.
#ifndef KDLIB_TRAIN_CHECKPOINT_INL_HPP
#define KDLIB_TRAIN_CHECKPOINT_INL_HPP

#include <algorithm>

#include "kdlib/io/json.hpp"
#include "kdlib/io/json_writer.hpp"
#include "kdlib/io/safetensors.hpp"
#include "kdlib/io/safetensors_writer.hpp"
#include "kdlib/train/checkpoint.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {
inline constexpr std::int64_t checkpoint_format = 1;
inline constexpr std::string_view partial_ending = ".partial";

inline void write_tensors(const std::string& path, const std::vector<HostTensor>& tensors,
                          const SettingsList& metadata) {
  SafetensorsWriter writer(path);
  for (const auto& [key, value] : metadata) writer.metadata(key, value);
  for (const HostTensor& t : tensors)
    writer.add(t.name, t.dtype, t.shape,
               std::span<const std::byte>(static_cast<const std::byte*>(t.data.get()), t.bytes));
  writer.commit();
}

inline std::vector<HostTensor> read_tensors(const std::string& path, SettingsList* metadata = nullptr) {
  const auto file = std::make_shared<SafetensorsFile>(path);
  std::vector<HostTensor> out;
  for (const TensorInfo& info : file->tensors())
    out.push_back(
        {info.name, info.dtype, info.shape(), std::shared_ptr<const void>(file, info.data.data()), info.data.size()});
  if (metadata != nullptr) metadata->assign(file->metadata().begin(), file->metadata().end());
  return out;
}

inline void write_list(JsonWriter& json, const char* name, const SettingsList& list) {
  json.key(name).begin_object();
  for (const auto& [key, value] : list) json.member(key, value);
  json.end_object();
}

inline SettingsList read_list(const Json& object) {
  SettingsList list;
  for (const auto& member : object.members())
    list.emplace_back(std::string(member.key), std::string(member.value.as_string()));
  return list;
}

inline std::string state_text(const TrainState& state) {
  JsonWriter json(JsonStyle{2, NonFinite::refuse});
  json.begin_object()
      .member("format", checkpoint_format)
      .member("stage", state.stage)
      .member("finished", state.finished);
  json.member("step", state.step)
      .member("skipped_steps", state.skipped_steps)
      .member("optimizer_steps", state.optimizer_steps);
  json.member("tokens", state.tokens).member("best_step", state.best_step).member("best_value", state.best_value);
  json.member("source_cursor", state.source_cursor);
  write_list(json, "settings", state.settings);
  write_list(json, "environment", state.environment);
  json.end_object();
  return json.text();
}

inline TrainState read_state(const std::string& folder) {
  const Json json = Json::parse_file(join_path(folder, "state.json"));
  if (json.at("format").as_int() != checkpoint_format)
    json.at("format").refuse(
        concat("is not ", checkpoint_format, ": this checkpoint was written by another version of kdlib"));
  TrainState state;
  state.stage = std::string(json.at("stage").as_string());
  state.finished = json.at("finished").as_bool();
  state.step = json.at("step").as_int();
  state.skipped_steps = json.at("skipped_steps").as_int();
  state.optimizer_steps = json.at("optimizer_steps").as_int();
  state.tokens = json.at("tokens").as_double();
  state.best_step = json.at("best_step").as_int();
  state.best_value = json.at("best_value").as_double();
  state.source_cursor = std::string(json.at("source_cursor").as_string());
  state.settings = read_list(json.at("settings"));
  state.environment = read_list(json.at("environment"));
  state.seconds = Json::parse_file(join_path(folder, "elapsed.json")).at("seconds").as_double();
  state.parameters = read_tensors(join_path(folder, "parameters.safetensors"));
  state.moments = read_tensors(join_path(folder, "optimizer.safetensors"));
  return state;
}

/// The step that a folder is named after, or -1 when its name is not a number of at most 18 digits.
inline std::int64_t step_of_name(const std::string& name) {
  if (name.empty() || name.size() > 18) return -1;
  std::int64_t step = 0;
  for (const char c : name) {
    if (c < '0' || c > '9') return -1;
    step = step * 10 + (c - '0');
  }
  return step;
}
}  // namespace detail

inline std::string Directory::checkpoints() const { return join_path(path_, "checkpoints"); }
inline std::string Directory::checkpoint_path(std::int64_t step) const {
  return join_path(checkpoints(), std::to_string(step));
}

inline void Directory::remove_partial() const {
  if (!is_directory(checkpoints())) return;
  for (const std::string& name : list_directory(checkpoints()))
    if (name.size() > detail::partial_ending.size() &&
        std::string_view(name).substr(name.size() - detail::partial_ending.size()) == detail::partial_ending)
      remove_tree(join_path(checkpoints(), name));
}

inline std::string Directory::begin_save(const TrainState& state) {
  const std::string partial = checkpoint_path(state.step) + std::string(detail::partial_ending);
  remove_partial();
  make_directories(partial);
  detail::write_tensors(join_path(partial, "parameters.safetensors"), state.parameters, {});
  detail::write_tensors(join_path(partial, "optimizer.safetensors"), state.moments, {});
  JsonWriter elapsed;
  write_file_atomically(join_path(partial, "elapsed.json"),
                        elapsed.begin_object().member("seconds", state.seconds).end_object().text());
  return partial;
}

inline void Directory::finish_save(const TrainState& state, const std::string& partial) {
  write_file_atomically(join_path(partial, "state.json"), detail::state_text(state));
  const std::string target = checkpoint_path(state.step);
  if (path_exists(target)) {  // left by a run that this one did not continue
    rename_path(target, target + ".old" + std::string(detail::partial_ending));
  }
  rename_path(partial, target);
  remove_partial();
}

template <class Extra>
void Directory::save(const TrainState& state, Extra&& extra) {
  try {
    const std::string partial = begin_save(state);
    extra(partial);
    finish_save(state, partial);
  } catch (...) {
    try {
      remove_partial();  // gives a full disk its space back
    } catch (const Error&) {
      // the first failure is the one to report
    }
    throw;
  }
}

template <class Extra>
void Directory::save_best(const TrainState& state, Extra&& extra) {
  const std::string folder = join_path(path_, "best");
  make_directories(folder);
  remove_stale_temporaries(folder);
  extra(folder);
  detail::write_tensors(join_path(folder, "parameters.safetensors"), state.parameters,
                        {{"step", std::to_string(state.best_step)}, {"value", setting_text(state.best_value)}});
}

inline std::optional<TrainState> Directory::best() const {
  const std::string file = join_path(join_path(path_, "best"), "parameters.safetensors");
  if (!path_exists(file)) return std::nullopt;
  SettingsList metadata;
  TrainState state;
  state.parameters = detail::read_tensors(file, &metadata);
  for (const auto& [key, value] : metadata) {
    if (key == "step") state.best_step = state.step = Json::parse(value, file).as_int();
    if (key == "value") state.best_value = Json::parse(value, file).as_double();
  }
  return state;
}

inline std::vector<std::int64_t> Directory::steps() const {
  std::vector<std::int64_t> out;
  if (!is_directory(checkpoints())) return out;
  for (const std::string& name : list_directory(checkpoints())) {
    const std::int64_t step = detail::step_of_name(name);
    if (step >= 0 && path_exists(join_path(join_path(checkpoints(), name), "state.json"))) out.push_back(step);
  }
  std::sort(out.begin(), out.end());
  return out;
}

inline std::optional<TrainState> Directory::latest() {
  notes_.clear();
  const std::vector<std::int64_t> complete = steps();
  if (is_directory(checkpoints())) {
    for (const std::string& name : list_directory(checkpoints())) {
      const std::int64_t step = detail::step_of_name(name);
      if (step >= 0 && !std::binary_search(complete.begin(), complete.end(), step))
        notes_.push_back(concat(checkpoint_path(step), " is not complete (no state.json) and is passed over"));
    }
  }
  if (complete.empty()) return std::nullopt;
  return detail::read_state(checkpoint_path(complete.back()));
}

inline void Directory::prune(std::int64_t keep) {
  if (keep <= 0) return;
  const std::vector<std::int64_t> all = steps();
  for (std::size_t i = 0; i + static_cast<std::size_t>(keep) < all.size(); ++i) {
    // Renamed first: a removal that is cut short must not look like a checkpoint.
    rename_path(checkpoint_path(all[i]), checkpoint_path(all[i]) + std::string(detail::partial_ending));
  }
  remove_partial();
}

inline void Directory::clear() {
  for (const std::int64_t step : steps())
    rename_path(checkpoint_path(step), checkpoint_path(step) + std::string(detail::partial_ending));
  remove_tree(checkpoints());
  remove_tree(join_path(path_, "best"));
}

KDLIB_NAMESPACE_END

#endif
