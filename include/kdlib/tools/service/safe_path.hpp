// SPDX-License-Identifier: Apache-2.0
// Checks the paths of requests: only files in allowed folders (roots) may be read, whatever dots and links a path
// contains.
#ifndef KDLIB_TOOLS_SERVICE_SAFE_PATH_HPP
#define KDLIB_TOOLS_SERVICE_SAFE_PATH_HPP

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "kdlib/io/json_writer.hpp"

KDLIB_NAMESPACE_BEGIN

/// The folders that may be read (roots), by their real paths. A path of a request must be absolute and inside a root,
/// or is relative to the first root. The kernel refuses links that lead out of their root (openat2, RESOLVE_BENEATH).
class AllowedRoots {
 public:
  AllowedRoots() = default;
  /// IoError: a folder does not exist.
  explicit AllowedRoots(const std::vector<std::string>& folders);

  /// Returns the path in a form that a program may get. ServiceProblem 403: the path is outside the roots; 404: nothing
  /// exists at the path.
  std::string checked(const std::string& path) const;
  /// Opens a regular file and returns its descriptor, which the caller must close. Sets `size` to the bytes of the
  /// file. Errors as in checked().
  int open_file(const std::string& path, std::uint64_t& size) const;
  /// Writes the contents of a folder of a root:
  /// {"root","folder","path","entries":[{"name","path","folder","kind","bytes", "lines"}],"truncated"}. "lines" is only
  /// there for prompts; at most 1000 entries are listed.
  void list(JsonWriter& json, std::size_t root, const std::string& path) const;
  const std::vector<std::string>& folders() const { return roots_; }

 private:
  /// Returns the number of the root and sets `rest` to the path inside this root.
  std::size_t find_root(const std::string& path, std::string& rest) const;
  int open_below(std::size_t root, const std::string& rest, const std::string& asked, int flags) const;

  std::vector<std::string> roots_;
};

/// Returns the kind of a path by its name and content: adapter, run, model (a folder or a GGUF file), folder, prompts
/// (JSON lines) or file.
std::string kind_of_path(const std::string& path, bool is_folder);

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/service/safe_path_inl.hpp"
#endif

#endif
