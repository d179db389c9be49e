// SPDX-License-Identifier: Apache-2.0
// Bodies of random_models.hpp.
#ifndef KDLIB_TOOLS_RANDOM_MODELS_INL_HPP
#define KDLIB_TOOLS_RANDOM_MODELS_INL_HPP

#include "kdlib/core/settings_error.hpp"
#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/paths.hpp"
#include "kdlib/tools/random_models.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {
KDLIB_TOOLS_FUNC void ready_random_models(const std::string& tag, const std::string& folder, const std::string& made,
                                          const std::string& kind, bool again) {
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
