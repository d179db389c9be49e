// SPDX-License-Identifier: Apache-2.0
// The folder of the models that --random-weights makes.
#ifndef KDLIB_TOOLS_RANDOM_MODELS_HPP
#define KDLIB_TOOLS_RANDOM_MODELS_HPP

#include <string>

#include "kdlib/core/settings_error.hpp"
#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/paths.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Readies `folder` for models of which `made` says what they are, in its file made_with; `again` removes those of a
/// run before. SettingsError: a folder that is there without that file, or models of another `kind`, with what to do.
inline void ready_random_models(const std::string& tag, const std::string& folder, const std::string& made,
                                const std::string& kind, bool again = false) {
  const std::string note = join_path(folder, "made_with");
  require<SettingsError>(!path_exists(folder) || path_exists(note), tag, folder,
                         " was not made by this program: it is not used or removed; choose another --out");
  const std::string partial = folder + ".partial";  // so that the folder never lacks its note, whenever it is cut off
  remove_tree(partial);
  if (again && path_exists(folder)) {
    rename_path(folder, partial);
    remove_tree(partial);
  }
  require<SettingsError>(!path_exists(note) || read_file(note) == made, tag, folder, " holds models of another ", kind);
  if (path_exists(note)) return;
  make_directories(partial);
  write_file_atomically(join_path(partial, "made_with"), made);
  rename_path(partial, folder);
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
