// SPDX-License-Identifier: Apache-2.0
// Paths of requests: what may be read lies in an allowed root, whatever dots and links say.
#ifndef KDLIB_TOOLS_SERVICE_SAFE_PATH_HPP
#define KDLIB_TOOLS_SERVICE_SAFE_PATH_HPP

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kdlib/io/json_writer.hpp"

KDLIB_NAMESPACE_BEGIN

/// The folders that may be read, by their real paths. A path of a request is absolute and in a root, or relative to the
/// first one. Links that leave the root they are in are refused by the kernel (openat2, RESOLVE_BENEATH).
class AllowedRoots {
 public:
  AllowedRoots() = default;
  /// IoError where a folder is not there.
  explicit AllowedRoots(const std::vector<std::string>& folders);

  /// The path that a program may be given. ServiceProblem 403: outside of the roots; 404: nothing is there.
  std::string checked(const std::string& path) const;
  /// An open descriptor of a regular file, to be closed by the caller, and its size; the same refusals.
  int open_file(const std::string& path, std::uint64_t& size) const;
  /// Names, kinds and sizes in a folder of a root: {"root","path","entries":[{"name","path","kind","bytes","lines"}]}.
  void list(JsonWriter& json, std::size_t root, const std::string& path) const;
  const std::vector<std::string>& folders() const { return roots_; }

 private:
  /// Root number and the rest of the path.
  std::size_t find_root(const std::string& path, std::string& rest) const;
  int open_below(std::size_t root, const std::string& rest, const std::string& asked, int flags) const;

  std::vector<std::string> roots_;
};

/// folder, model, adapter, prompts (JSON lines), gguf, report or file, by name and content.
std::string kind_of_path(const std::string& path, bool is_folder);

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/service/safe_path_inl.hpp"
#endif

#endif
