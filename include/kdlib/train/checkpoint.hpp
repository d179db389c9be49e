// SPDX-License-Identifier: Apache-2.0
// Checkpoints in a folder. Each checkpoint is either complete or absent, whenever the process or the machine stops.
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

/// A store of checkpoints below one folder. `<path>/checkpoints/<step>/` holds parameters.safetensors (the trained
/// parameters), optimizer.safetensors, elapsed.json (the only file in which two equal runs differ), state.json and
/// checksums.json (XXH64 of every file except elapsed.json, which has a checksum inside). A checkpoint is written as
/// `<step>.partial` and renamed when all its files are on disk. `<path>/best/` holds parameters.safetensors of the best
/// state; this file contains its checksum and is replaced in one rename. IoError, naming the path: the disk is full or
/// the folder cannot be written. Checkpoints that were complete before stay unchanged.
class Directory {
 public:
  explicit Directory(std::string path) : path_(std::move(path)) {}

  /// Writes a checkpoint and returns when it is complete and synced to disk. `extra(folder)` may add files before the
  /// checkpoint becomes visible.
  template <class Extra = detail::NoExtraFiles>
  void save(const TrainState& state, Extra&& extra = {});

  /// Reads the newest complete checkpoint whose files match their checksums; returns nothing if there is no checkpoint.
  /// Damaged checkpoints and incomplete folders are skipped and named in notes(). FormatError: all checkpoints are
  /// damaged. ConfigError: the newest checkpoint was written by another version of kdlib.
  std::optional<TrainState> latest();

  /// Renames the damaged checkpoints that the last call of latest() skipped to `<step>.damaged`, so that prune() does
  /// not count them and latest() does not read them again.
  void set_damaged_aside();

  /// Replaces the best state by the parameters of `state`. `extra(folder)` may add files, and must replace each file
  /// atomically.
  template <class Extra = detail::NoExtraFiles>
  void save_best(const TrainState& state, Extra&& extra = {});

  /// Reads step, value and parameters of the best state; the other members of TrainState are empty. FormatError: the
  /// file does not match its checksum.
  std::optional<TrainState> best() const;

  /// Removes all checkpoints except the `keep` newest ones; 0 keeps all.
  void prune(std::int64_t keep);

  /// Removes checkpoints/ and best/.
  void clear();

  /// Returns the steps of the complete checkpoints, in rising order.
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
  std::vector<std::int64_t> damaged_;  // damaged checkpoints that the last latest() found
};

/// A store that keeps nothing, for runs that nobody will continue.
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
