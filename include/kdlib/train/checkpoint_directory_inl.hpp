// SPDX-License-Identifier: Apache-2.0
// Bodies of checkpoint.hpp. The files of one checkpoint are in checkpoint_files_inl.hpp.
#ifndef KDLIB_TRAIN_CHECKPOINT_DIRECTORY_INL_HPP
#define KDLIB_TRAIN_CHECKPOINT_DIRECTORY_INL_HPP

#include <algorithm>
#include <string_view>

#include "kdlib/core/error.hpp"
#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/json.hpp"
#include "kdlib/io/paths.hpp"
#include "kdlib/train/checkpoint.hpp"
#include "kdlib/train/checkpoint_files_inl.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {

inline constexpr std::string_view partial_ending = ".partial", damaged_ending = ".damaged";

/// The step that a folder is named after, or -1 when its name is not a number of at most 18 digits.
KDLIB_FUNC std::int64_t step_of_name(const std::string& name) {
  if (name.empty() || name.size() > 18) return -1;
  std::int64_t step = 0;
  for (const char c : name) {
    if (c < '0' || c > '9') return -1;
    step = step * 10 + (c - '0');
  }
  return step;
}

}  // namespace detail

KDLIB_FUNC std::string Directory::checkpoints() const { return join_path(path_, "checkpoints"); }

KDLIB_FUNC std::string Directory::checkpoint_path(std::int64_t step) const {
  return join_path(checkpoints(), std::to_string(step));
}

KDLIB_FUNC void Directory::remove_partial() const {
  if (!is_directory(checkpoints())) return;
  for (const std::string& name : list_directory(checkpoints()))
    if (name.size() > detail::partial_ending.size() &&
        std::string_view(name).substr(name.size() - detail::partial_ending.size()) == detail::partial_ending)
      remove_tree(join_path(checkpoints(), name));
}

KDLIB_FUNC std::string Directory::begin_save(const TrainState& state) {
  const std::string partial = checkpoint_path(state.step) + std::string(detail::partial_ending);
  remove_partial();
  make_directories(partial);
  detail::write_tensors(join_path(partial, "parameters.safetensors"), state.parameters, {});
  detail::write_tensors(join_path(partial, "optimizer.safetensors"), state.moments, {});
  write_file_atomically(join_path(partial, detail::elapsed_name), detail::elapsed_text(state.seconds));
  return partial;
}

KDLIB_FUNC void Directory::finish_save(const TrainState& state, const std::string& partial) {
  write_file_atomically(join_path(partial, "state.json"), detail::state_text(state));
  detail::write_checksums(partial);
  const std::string target = checkpoint_path(state.step);
  if (path_exists(target)) {  // left by a run that this one did not continue
    rename_path(target, target + ".old" + std::string(detail::partial_ending));
  }
  rename_path(partial, target);
  remove_partial();
}

KDLIB_FUNC std::string Directory::begin_best() const {
  std::string folder = join_path(path_, "best");
  make_directories(folder);
  remove_stale_temporaries(folder);
  return folder;
}

KDLIB_FUNC void Directory::finish_best(const TrainState& state, const std::string& folder) const {
  detail::write_tensors(join_path(folder, "parameters.safetensors"), state.parameters,
                        {{"step", std::to_string(state.best_step)},
                         {"value", setting_text(state.best_value)},
                         {"checksum", detail::best_checksum(state)}});
}

KDLIB_FUNC std::optional<TrainState> Directory::best() const {
  const std::string file = join_path(join_path(path_, "best"), "parameters.safetensors");
  if (!path_exists(file)) return std::nullopt;
  SettingsList metadata;
  TrainState state;
  state.parameters = detail::read_tensors(file, &metadata);
  std::string checksum;
  for (const auto& [key, value] : metadata) {
    if (key == "step") state.best_step = state.step = Json::parse(value, file).as_int();
    if (key == "value") state.best_value = Json::parse(value, file).as_double();
    if (key == "checksum") checksum = value;
  }
  require<FormatError>(
      checksum == detail::best_checksum(state), "[resume] ", file,
      " is damaged: its bytes are not those that were written; remove the folder best/ to go on without");
  return state;
}

KDLIB_FUNC std::vector<std::int64_t> Directory::steps() const {
  std::vector<std::int64_t> out;
  if (!is_directory(checkpoints())) return out;
  for (const std::string& name : list_directory(checkpoints())) {
    const std::int64_t step = detail::step_of_name(name);
    if (step >= 0 && path_exists(join_path(join_path(checkpoints(), name), "state.json"))) out.push_back(step);
  }
  std::sort(out.begin(), out.end());
  return out;
}

KDLIB_FUNC std::optional<TrainState> Directory::latest() {
  notes_.clear();
  damaged_.clear();
  const std::vector<std::int64_t> complete = steps();
  if (is_directory(checkpoints())) {
    for (const std::string& name : list_directory(checkpoints())) {
      const std::int64_t step = detail::step_of_name(name);
      if (step >= 0 && !std::binary_search(complete.begin(), complete.end(), step))
        notes_.push_back(concat(checkpoint_path(step), " is not complete (no state.json) and is passed over"));
    }
  }
  std::string damage;
  for (auto step = complete.rbegin(); step != complete.rend(); ++step) {
    const std::string folder = checkpoint_path(*step);
    try {
      detail::check_format(folder);
      detail::verify_checksums(folder);
      TrainState state = detail::read_state(folder);
      if (!damage.empty()) notes_.push_back(concat(damage, ": goes on from step ", *step));
      return state;
    } catch (const FormatError& error) {
      damage += concat(damage.empty() ? "" : "; ", "checkpoint ", *step, " is damaged (", error.what(), ")");
    } catch (const IoError& error) {
      damage += concat(damage.empty() ? "" : "; ", "checkpoint ", *step, " is damaged (", error.what(), ")");
    }
    damaged_.push_back(*step);
  }
  require<FormatError>(
      damage.empty(), "[resume] ", damage,
      ": no checkpoint is left to go on from; restore one from a copy, or start again without resuming");
  return std::nullopt;
}

KDLIB_FUNC void Directory::set_damaged_aside() {
  for (const std::int64_t step : damaged_) {
    const std::string aside = checkpoint_path(step) + std::string(detail::damaged_ending);
    remove_tree(aside);  // of an earlier time
    rename_path(checkpoint_path(step), aside);
  }
  damaged_.clear();
}

KDLIB_FUNC void Directory::prune(std::int64_t keep) {
  if (keep <= 0) return;
  const std::vector<std::int64_t> all = steps();
  for (std::size_t i = 0; i + static_cast<std::size_t>(keep) < all.size(); ++i) {
    // Renamed first: a removal that is cut short must not look like a checkpoint.
    rename_path(checkpoint_path(all[i]), checkpoint_path(all[i]) + std::string(detail::partial_ending));
  }
  remove_partial();
}

KDLIB_FUNC void Directory::clear() {
  for (const std::int64_t step : steps())
    rename_path(checkpoint_path(step), checkpoint_path(step) + std::string(detail::partial_ending));
  remove_tree(checkpoints());
  remove_tree(join_path(path_, "best"));
}

KDLIB_NAMESPACE_END

#endif
