// SPDX-License-Identifier: Apache-2.0
// Checkpoints in a folder: each is complete or not there, whenever the process or the machine stops.
#ifndef KDLIB_TRAIN_CHECKPOINT_HPP
#define KDLIB_TRAIN_CHECKPOINT_HPP

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "kdlib/train/state.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {
struct NoExtraFiles {
  void operator()(const std::string&) const {}
};
}  // namespace detail

/// `<path>/checkpoints/<step>/` holds parameters.safetensors (those that were trained), optimizer.safetensors,
/// elapsed.json (the one file in which two equal runs differ), state.json and checksums.json (XXH64 of every other
/// file); it is written as `<step>.partial` and renamed when all of it is on disk.
/// `<path>/best/` holds parameters.safetensors of the best state, replaced in one rename, with a checksum in it.
/// IoError, naming the path, where the disk is full or the folder refused: what was complete before stays as it was.
class Directory {
 public:
  explicit Directory(std::string path) : path_(std::move(path)) {}

  /// Returns when the checkpoint is complete and synced. `extra(folder)` may add files before it becomes visible.
  template <class Extra = detail::NoExtraFiles>
  void save(const TrainState& state, Extra&& extra = {});

  /// The newest complete checkpoint whose files have the bytes that were written. Damaged ones and folders that are not
  /// complete are passed over and named in notes(). FormatError where there are checkpoints and all are damaged;
  /// ConfigError where another version of kdlib wrote the newest.
  std::optional<TrainState> latest();

  /// Renames the damaged checkpoints that the last latest() passed over to `<step>.damaged`, so that they are neither
  /// kept in place of good ones nor read again.
  void set_damaged_aside();

  /// Replaces the best state by the parameters of this one. `extra(folder)` may add files, each replaced atomically.
  template <class Extra = detail::NoExtraFiles>
  void save_best(const TrainState& state, Extra&& extra = {});

  /// Step, value and parameters of the best state; the other members are empty. FormatError where its bytes are not
  /// those that were written.
  std::optional<TrainState> best() const;

  /// Removes all but the `keep` newest checkpoints; 0 keeps all.
  void prune(std::int64_t keep);

  /// Removes checkpoints/ and best/.
  void clear();

  /// Steps of the complete checkpoints, in order.
  std::vector<std::int64_t> steps() const;

  const std::string& path() const { return path_; }
  std::string checkpoint_path(std::int64_t step) const;
  const std::vector<std::string>& notes() const { return notes_; }

 private:
  std::string begin_save(const TrainState& state);
  void finish_save(const TrainState& state, const std::string& partial);
  std::string begin_best() const;
  void finish_best(const TrainState& state, const std::string& folder) const;
  std::string checkpoints() const;
  void remove_partial() const;

  std::string path_;
  std::vector<std::string> notes_;
  std::vector<std::int64_t> damaged_;  // found by the last latest()
};

/// For runs that nobody will continue.
struct NoCheckpoints {
  void save(const TrainState&) {}
  std::optional<TrainState> latest() { return std::nullopt; }
};

KDLIB_NAMESPACE_END

#include "kdlib/train/checkpoint_inl.hpp"
#if KDLIB_HEADER_ONLY
#include "kdlib/train/checkpoint_directory_inl.hpp"
#endif

#endif
