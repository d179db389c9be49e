// SPDX-License-Identifier: Apache-2.0
// The folder of a run: who may write into it, its settings, and what an earlier run left there.
#ifndef KDLIB_RECIPE_RUN_FOLDER_HPP
#define KDLIB_RECIPE_RUN_FOLDER_HPP

#include <optional>
#include <string>
#include <vector>

#include "kdlib/recipe/run_outputs.hpp"
#include "kdlib/recipe/settings.hpp"

KDLIB_NAMESPACE_BEGIN

/// Keeps a second session, of this process or another, out of a folder as long as this object holds the lock. The
/// system releases the lock when the process ends, in whatever way.
class FolderLock {
 public:
  FolderLock() = default;
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;
  ~FolderLock() { release(); }

  /// Takes the lock. Throws IoError if the folder is not there or another session holds the lock.
  void take(const std::string& folder);
  void release();

 private:
  int fd_ = -1;
};

/// Returns the text of config.yaml, with one setting on each line.
std::string run_config_text(const std::vector<DescribedSetting>& settings);
/// Reads the settings of such a config.yaml. Throws FormatError, which names the line, for a line of another form.
std::vector<DescribedSetting> read_run_config(const std::string& path);

/// The folder of one run.
class RunFolder {
 public:
  explicit RunFolder(std::string path) : path_(std::move(path)), outputs_(path_) {}

  const std::string& path() const { return path_; }
  std::string file(const char* name) const;
  bool has(const char* name) const;

  /// Throws SettingsError, which names the first setting with another value in the folder's config.yaml. Settings that
  /// change no number may differ.
  void check_same(const std::vector<DescribedSetting>& settings) const;

  /// Makes the folder, locks it and removes temporary files that killed processes left of the run's own files. With
  /// `start_over`, removes the files of an earlier run and replaces its config.yaml; else writes config.yaml if there
  /// is none. The folder must have passed check_run_place.
  void prepare(const std::vector<DescribedSetting>& settings, bool start_over);
  /// Locks an existing folder and removes temporary files of killed processes. For code that writes into a finished
  /// run.
  void open();
  /// Releases the lock, so that another session may use the folder.
  void release() { lock_.release(); }
  /// Returns the names of an earlier run's files and folders that are there and that starting over removes or replaces.
  std::vector<std::string> earlier_files() const;
  /// The list of files that the run has written. Between prepare() and release(), call claim() before a name is
  /// written.
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
