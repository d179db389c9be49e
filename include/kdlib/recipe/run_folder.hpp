// SPDX-License-Identifier: Apache-2.0
// The folder of a run: who may write into it, what it says about itself, what an earlier run left there.
#ifndef KDLIB_RECIPE_RUN_FOLDER_HPP
#define KDLIB_RECIPE_RUN_FOLDER_HPP

#include <optional>
#include <string>
#include <vector>

#include "kdlib/recipe/run_outputs.hpp"
#include "kdlib/recipe/settings.hpp"

KDLIB_NAMESPACE_BEGIN

/// Keeps a second session, of this process or another, out of a folder for as long as it lives; the system lets go when
/// the process ends, however it does.
class FolderLock {
 public:
  FolderLock() = default;
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;
  ~FolderLock() { release(); }

  /// IoError: the folder is not there, or someone holds it.
  void take(const std::string& folder);
  void release();

 private:
  int fd_ = -1;
};

/// The text of config.yaml: a line a setting.
std::string run_config_text(const std::vector<DescribedSetting>& settings);
/// The settings of a config.yaml of that form. FormatError names the line that is not.
std::vector<DescribedSetting> read_run_config(const std::string& path);

/// The folder of one run.
class RunFolder {
 public:
  explicit RunFolder(std::string path) : path_(std::move(path)), outputs_(path_) {}

  const std::string& path() const { return path_; }
  std::string file(const char* name) const;
  bool has(const char* name) const;

  /// SettingsError names the first setting that the folder's config.yaml has otherwise. Settings that change no number
  /// may differ.
  void check_same(const std::vector<DescribedSetting>& settings) const;

  /// Makes the folder, locks it and clears what killed processes left of the run's own files. With `start_over`, what
  /// an earlier run wrote is removed and its config.yaml replaced; else config.yaml is written where there is none. The
  /// folder must have passed check_run_place.
  void prepare(const std::vector<DescribedSetting>& settings, bool start_over);
  /// Locks the folder, which is there, and clears what killed processes left, for whoever writes into a finished run.
  void open();
  /// Lets another session have the folder.
  void release() { lock_.release(); }
  /// The names of an earlier run's files and folders that are there: what starting over removes.
  std::vector<std::string> earlier_files() const;
  /// What the run has written. Between prepare() and release(), claim() before a name is written.
  RunOutputs& outputs() { return outputs_; }

 private:
  std::string path_;
  FolderLock lock_;
  RunOutputs outputs_;
};

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/recipe/run_folder_inl.hpp"
#endif

#endif
