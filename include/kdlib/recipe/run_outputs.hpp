// SPDX-License-Identifier: Apache-2.0
// The list of what a run has written into its folder, kept there as outputs.json. Only listed files are replaced or
// removed. Exported files are compared with their checksums before a run is called finished.
#ifndef KDLIB_RECIPE_RUN_OUTPUTS_HPP
#define KDLIB_RECIPE_RUN_OUTPUTS_HPP

#include <string>
#include <vector>

#include "kdlib/io/paths.hpp"
#include "kdlib/recipe/settings.hpp"

KDLIB_NAMESPACE_BEGIN

/// Returns all names that a run may write below its folder: files, and folders with all their content.
const std::vector<std::string>& run_names();
/// Returns the names that a run of these settings writes before and while it trains.
std::vector<std::string> names_while_training(const RecipeSettings& settings);
/// Returns the names of the student's exported forms, which such a run writes after training.
std::vector<std::string> exported_names(const RecipeSettings& settings);
/// Returns the names of both lists above, and those of the result and the report.
std::vector<std::string> names_written(const RecipeSettings& settings);

namespace detail {
/// True if anything has this name, also a link to nothing.
bool name_is_taken(const std::string& path);
}  // namespace detail

/// The list of one folder. The run claims a name before the file is written, so the files of a killed run are known as
/// its own.
class RunOutputs {
 public:
  explicit RunOutputs(std::string folder) : folder_(std::move(folder)) {}

  /// Reads the list of the folder. Empty if there is no outputs.json. Throws FormatError if that file is not a run's.
  static RunOutputs read(const std::string& folder);

  bool lists(const std::string& name) const;
  const std::vector<std::string>& names() const { return names_; }

  /// Adds names to the list on disk. Throws SettingsError, which names the path, if something has a name that the list
  /// does not have: the run must not replace it.
  void claim(const std::vector<std::string>& names);
  /// Records the checksums of all files below these names, for damage(). Earlier checksums of these names are dropped.
  /// Files that were foreign() when the list was read stay foreign.
  void record(const std::vector<std::string>& names);
  /// Removes names from the list if nothing with that name exists.
  void forget_missing();
  /// Removes everything in the list except config.yaml and the list itself, by which the folder is recognised.
  void remove_all();

  /// Recorded files that are missing, and recorded files whose bytes have changed; paths in the folder.
  struct Damage {
    std::vector<std::string> missing, changed;
  };
  Damage damage() const;

  /// Returns files in folders of the list that no run put there: files that are not recorded (folders without any
  /// recorded file are skipped), and names in checkpoints/, text/, validation_text/ and best/ that no run gives.
  std::vector<std::string> foreign() const;

 private:
  void write() const;
  void add_foreign(const std::string& name, std::vector<std::string>& found) const;

  std::string folder_;
  std::vector<std::string> names_;
  std::vector<std::string> strangers_;  // what foreign() found when the list was read
  SettingsList checksums_;              // path in the folder and checksum, sorted
};

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/recipe/run_outputs_inl.hpp"
#endif

#endif
