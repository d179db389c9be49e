// SPDX-License-Identifier: Apache-2.0
// What a run has written into its folder, as outputs.json there lists it: nothing else is replaced or removed, and what
// was exported is compared with its checksums before a run is called finished.
#ifndef KDLIB_RECIPE_RUN_OUTPUTS_HPP
#define KDLIB_RECIPE_RUN_OUTPUTS_HPP

#include <string>
#include <vector>

#include "kdlib/io/paths.hpp"
#include "kdlib/recipe/settings.hpp"

KDLIB_NAMESPACE_BEGIN

/// The names below its folder that a run may write: files, and folders with all that is in them.
const std::vector<std::string>& run_names();
/// Those of them that a run of these settings writes: before and while it trains,
std::vector<std::string> names_while_training(const RecipeSettings& settings);
/// the student in every form that it is left in, when training has ended,
std::vector<std::string> exported_names(const RecipeSettings& settings);
/// and all, the result and the report among them.
std::vector<std::string> names_written(const RecipeSettings& settings);

namespace detail {
/// True when something has this name, a link to nothing included.
bool name_is_taken(const std::string& path);
}  // namespace detail

/// The list of one folder. A name is claimed before the run writes it, so that a run that is killed owns what it left.
class RunOutputs {
 public:
  explicit RunOutputs(std::string folder) : folder_(std::move(folder)) {}

  /// The list of the folder; empty where there is no outputs.json. FormatError where it is not a run's.
  static RunOutputs read(const std::string& folder);

  bool lists(const std::string& name) const;
  const std::vector<std::string>& names() const { return names_; }

  /// Adds names to the list on disk. SettingsError, naming it, where something of a name is there that the list does
  /// not have: it is not the run's to replace.
  void claim(const std::vector<std::string>& names);
  /// Keeps the checksums of all files of claimed names, for damage(). Earlier checksums of these names are dropped;
  /// what was foreign() when the list was read stays foreign.
  void record(const std::vector<std::string>& names);
  /// Drops names of which nothing is there.
  void forget_missing();
  /// Removes everything of the list but config.yaml and the list itself, which keep the folder recognisable.
  void remove_all();

  /// What of the recorded files is not there, and what has other bytes than were written: paths in the folder.
  struct Damage {
    std::vector<std::string> missing, changed;
  };
  Damage damage() const;

  /// What lies in folders of the list although no run put it there: files that are not among the recorded ones (folders
  /// that were not recorded yet are passed over), and names in checkpoints/, text/ and best/ that no run gives.
  std::vector<std::string> foreign() const;

 private:
  void write() const;
  void add_foreign(const std::string& name, std::vector<std::string>& found) const;

  std::string folder_;
  std::vector<std::string> names_;
  std::vector<std::string> strangers_;  // foreign() when the list was read
  SettingsList checksums_;              // path in the folder and checksum, sorted
};

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/recipe/run_outputs_inl.hpp"
#endif

#endif
