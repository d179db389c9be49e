// SPDX-License-Identifier: Apache-2.0
// Bodies of io/paths.hpp.
#ifndef KDLIB_IO_PATHS_INL_HPP
#define KDLIB_IO_PATHS_INL_HPP

#include <dirent.h>
#include <limits.h>
#include <stdlib.h>

#include <algorithm>

#include "kdlib/io/paths.hpp"
#include "kdlib/io/system_inl.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {
KDLIB_FUNC std::string_view without_end_slashes(std::string_view path) {
  while (path.size() > 1 && path.back() == '/') path.remove_suffix(1);
  return path;
}
/// Says what stands where a folder is needed.
[[noreturn]] inline void refuse_no_folder(const char* operation, const std::string& path) {
  const char* what = path_exists(path) ? "a file, and a folder is needed" : "a symbolic link to nothing";
  fail<IoError>("[", operation, "] ", path, " is ", what, ": choose another path, or remove it");
}
KDLIB_FUNC void make_one_directory(const std::string& path) {
  if (::mkdir(path.c_str(), 0777) == 0) return;
  const int code = errno;
  if (code == EEXIST && is_directory(path)) return;
  if (is_directory(path)) return;  // EROFS or EACCES on a folder that is there
  if (code == EEXIST) refuse_no_folder("make_directories", path);
  fail_io("make_directories", path, code);
}
}  // namespace detail

KDLIB_FUNC std::string join_path(std::string_view folder, std::string_view name) {
  if (folder.empty() || (!name.empty() && name.front() == '/')) return std::string(name);
  std::string out(folder);
  if (out.back() != '/') out += '/';
  return out.append(name);
}

KDLIB_FUNC std::string parent_path(std::string_view path) {
  path = detail::without_end_slashes(path);
  const std::size_t slash = path.rfind('/');
  if (slash == std::string_view::npos) return ".";
  return std::string(detail::without_end_slashes(path.substr(0, slash == 0 ? 1 : slash)));
}

KDLIB_FUNC std::string file_name(std::string_view path) {
  path = detail::without_end_slashes(path);
  const std::size_t slash = path.rfind('/');
  return std::string(slash == std::string_view::npos ? path : path.substr(slash + 1));
}

KDLIB_FUNC bool path_exists(const std::string& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0;
}

KDLIB_FUNC bool is_directory(const std::string& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

KDLIB_FUNC bool is_regular_file(const std::string& path) {
  struct stat status {};
  return ::stat(path.c_str(), &status) == 0 && S_ISREG(status.st_mode);
}

KDLIB_FUNC std::uint64_t file_size(const std::string& path) {
  struct stat status {};
  if (::stat(path.c_str(), &status) != 0) detail::fail_io("file_size", path, errno);
  require<IoError>(S_ISREG(status.st_mode), "[file_size] ", path, ": not a regular file");
  return static_cast<std::uint64_t>(status.st_size);
}

KDLIB_FUNC std::vector<std::string> list_directory(const std::string& path) {
  DIR* folder = ::opendir(path.c_str());
  if (folder == nullptr) detail::fail_io("list_directory", path, errno);
  std::vector<std::string> names;
  errno = 0;
  while (const dirent* entry = ::readdir(folder)) {
    const std::string_view name = entry->d_name;
    if (name != "." && name != "..") names.emplace_back(name);
    errno = 0;
  }
  const int code = errno;
  ::closedir(folder);
  if (code != 0) detail::fail_io("list_directory", path, code);
  std::sort(names.begin(), names.end());
  return names;
}

KDLIB_FUNC void make_directories(const std::string& path) {
  require<IoError>(!path.empty(), "[make_directories] the path is empty; name a folder");
  for (std::size_t slash = path.find('/', 1); slash != std::string::npos; slash = path.find('/', slash + 1)) {
    if (path[slash - 1] != '/') detail::make_one_directory(path.substr(0, slash));
  }
  if (path.back() != '/') detail::make_one_directory(path);
}

KDLIB_FUNC void check_folder_path(const std::string& path) {
  require<IoError>(!path.empty(), "[folder] the path is empty; name a folder");
  for (std::size_t end = 0; end < path.size();) {
    end = std::min(path.find('/', end + 1), path.size());
    const std::string part = path.substr(0, end);
    struct stat status {};
    if (::lstat(part.c_str(), &status) != 0) {
      if (errno == ENOENT) return;  // this part and what is below it can be made
      detail::fail_io("folder", part, errno);
    }
    if (!is_directory(part)) detail::refuse_no_folder("folder", part);
  }
}

KDLIB_FUNC void rename_path(const std::string& from, const std::string& to) {
  detail::rename_file("rename_path", from, to);
  detail::sync_folder("rename_path", parent_path(to));
}

KDLIB_FUNC void remove_tree(const std::string& path) {
  struct stat status {};
  if (::lstat(path.c_str(), &status) != 0) {
    if (errno == ENOENT || errno == ENOTDIR) return;
    detail::fail_io("remove_tree", path, errno);
  }
  if (!S_ISDIR(status.st_mode)) {
    if (::unlink(path.c_str()) != 0 && errno != ENOENT) detail::fail_io("remove_tree", path, errno);
    return;
  }
  for (const std::string& name : list_directory(path)) remove_tree(join_path(path, name));
  if (::rmdir(path.c_str()) != 0 && errno != ENOENT) detail::fail_io("remove_tree", path, errno);
}

namespace detail {

KDLIB_FUNC std::string resolved_path(const std::string& path) {
  char buffer[PATH_MAX];
  if (::realpath(path.c_str(), buffer) != nullptr) return buffer;
  const std::string above = parent_path(path);
  if (above == path) return path;
  return join_path(resolved_path(above), file_name(path));
}

KDLIB_FUNC bool lies_in(const std::string& path, const std::string& folder) {
  return path == folder || (path.size() > folder.size() && path.compare(0, folder.size(), folder) == 0 &&
                            (path[folder.size()] == '/' || folder == "/"));
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
