// SPDX-License-Identifier: Apache-2.0
// The folder of a run: who may write into it, what it says about itself, what an earlier run left there.
#ifndef KDLIB_RECIPE_RUN_FOLDER_HPP
#define KDLIB_RECIPE_RUN_FOLDER_HPP

#include <optional>
#include <string>
#include <vector>

#include "kdlib/io/paths.hpp"
#include "kdlib/recipe/settings.hpp"

KDLIB_NAMESPACE_BEGIN

/// Keeps a second session, of this process or another, out of a folder for as long as it lives; the system lets go when
/// the process ends, however it does.
class FolderLock {
 public:
  FolderLock() = default;
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;
  ~FolderLock();

  /// IoError: the folder is not there, or someone holds it.
  void take(const std::string& folder);

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
  explicit RunFolder(std::string path) : path_(std::move(path)) {}

  const std::string& path() const { return path_; }
  std::string file(const char* name) const { return join_path(path_, name); }
  bool has(const char* name) const { return path_exists(file(name)); }

  /// ConfigError names the first setting that the folder's config.yaml has otherwise. Settings that change no number
  /// may differ.
  void check_same(const std::vector<DescribedSetting>& settings) const;

  /// Makes the folder, locks it, clears what killed processes left, with `start_over` also what an earlier run wrote,
  /// and writes config.yaml where there is none.
  void prepare(const std::vector<DescribedSetting>& settings, bool start_over);

 private:
  std::string path_;
  FolderLock lock_;
};

KDLIB_NAMESPACE_END

#include "kdlib/recipe/run_folder_inl.hpp"

#endif
