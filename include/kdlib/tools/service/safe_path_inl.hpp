// SPDX-License-Identifier: Apache-2.0
// Bodies of safe_path.hpp.
#ifndef KDLIB_TOOLS_SERVICE_SAFE_PATH_INL_HPP
#define KDLIB_TOOLS_SERVICE_SAFE_PATH_INL_HPP

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <climits>
#include <cstdlib>
#include <cstring>

#include "kdlib/io/paths.hpp"
#include "kdlib/io/system_inl.hpp"
#include "kdlib/text/unicode.hpp"
#include "kdlib/tools/service/message.hpp"
#include "kdlib/tools/service/safe_path.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_TOOLS_FUNC AllowedRoots::AllowedRoots(const std::vector<std::string>& folders) {
  for (const std::string& folder : folders) {
    char* real = ::realpath(folder.c_str(), nullptr);
    if (real == nullptr) detail::fail_io("serve", folder, errno);
    std::string path = real;
    std::free(real);
    require<IoError>(is_directory(path), "[serve] the root ", path, " is no folder");
    roots_.push_back(std::move(path));
  }
}

KDLIB_TOOLS_FUNC std::size_t AllowedRoots::find_root(const std::string& path, std::string& rest) const {
  if (roots_.empty()) throw ServiceProblem(403, "no folder may be read: start serve with --root DIR");
  if (path.empty() || path[0] != '/') {
    rest = path.empty() ? "." : path;
    return 0;
  }
  for (std::size_t r = 0; r < roots_.size(); ++r) {
    const std::string& root = roots_[r];
    if (!detail::lies_in(path, root)) continue;
    const std::size_t begin = path.find_first_not_of('/', root.size());
    rest = begin == std::string::npos ? "." : path.substr(begin);
    return r;
  }
  throw ServiceProblem(403, concat("'", replace_invalid_utf8(path), "' is in no folder that serve may read (--root)"));
}

KDLIB_TOOLS_FUNC int AllowedRoots::open_below(std::size_t root, const std::string& rest, const std::string& asked,
                                              int flags) const {
  const detail::FileDescriptor folder = detail::open_descriptor(roots_[root], O_PATH | O_DIRECTORY);
  if (!folder) throw ServiceProblem(404, concat("the root ", roots_[root], " is not there any more"));
  struct open_how how {};
  how.flags = static_cast<std::uint64_t>(flags | O_CLOEXEC);
  how.resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS;
  long fd = -1;
  do fd = ::syscall(SYS_openat2, folder.get(), rest.c_str(), &how, sizeof how);
  while (fd < 0 && (errno == EINTR || errno == EAGAIN));
  if (fd >= 0) return static_cast<int>(fd);
  const std::string shown = "'" + replace_invalid_utf8(asked) + "'";
  if (errno == EXDEV || errno == ELOOP || errno == EACCES || errno == EPERM)
    throw ServiceProblem(403, concat(shown, " leaves the allowed folder ", roots_[root], " or may not be read"));
  if (errno == ENOSYS) throw ServiceProblem(503, "this kernel has no openat2: serve reads no files for requests");
  const int why = errno;
  const std::string place = asked.empty() || asked[0] != '/' ? concat(" below ", roots_[root]) : std::string();
  throw ServiceProblem(404, concat(shown, place, ": ", std::strerror(why)));
}

KDLIB_TOOLS_FUNC std::string AllowedRoots::checked(const std::string& path) const {
  std::string rest;
  const std::size_t root = find_root(path, rest);
  ::close(open_below(root, rest, path, O_PATH));
  return rest == "." ? roots_[root] : join_path(roots_[root], rest);
}

KDLIB_TOOLS_FUNC int AllowedRoots::open_file(const std::string& path, std::uint64_t& size) const {
  std::string rest;
  const std::size_t root = find_root(path, rest);
  detail::FileDescriptor fd(open_below(root, rest, path, O_RDONLY | O_NONBLOCK));
  struct stat status {};
  if (::fstat(fd.get(), &status) != 0 || !S_ISREG(status.st_mode))
    throw ServiceProblem(404, concat("'", replace_invalid_utf8(path), "' is no regular file"));
  size = static_cast<std::uint64_t>(status.st_size);
  return fd.release();
}

KDLIB_TOOLS_FUNC std::string kind_of_path(const std::string& path, bool is_folder) {
  const auto ends = [&](std::string_view end) {
    return path.size() > end.size() && std::string_view(path).substr(path.size() - end.size()) == end;
  };
  if (is_folder) {
    if (path_exists(join_path(path, "adapter_config.json"))) return "adapter";
    if (path_exists(join_path(path, "config.yaml")) && path_exists(join_path(path, "metrics.jsonl"))) return "run";
    return path_exists(join_path(path, "config.json")) ? "model" : "folder";
  }
  return ends(".gguf") ? "model" : ends(".jsonl") ? "prompts" : "file";
}

namespace detail {
/// Line feeds of a file of at most 8 MiB; -1 for larger ones.
KDLIB_TOOLS_FUNC std::int64_t count_lines(int folder, const char* name) {
  const FileDescriptor fd(::openat(folder, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK));
  struct stat status {};
  if (!fd || ::fstat(fd.get(), &status) != 0 || status.st_size > (8 << 20)) return -1;
  std::int64_t lines = 0;
  char buffer[1 << 15];
  char last = '\n';
  for (ssize_t n; (n = ::read(fd.get(), buffer, sizeof buffer)) > 0; last = buffer[n - 1])
    for (ssize_t i = 0; i < n; ++i) lines += buffer[i] == '\n';
  return lines + (last != '\n');
}
}  // namespace detail

KDLIB_TOOLS_FUNC void AllowedRoots::list(JsonWriter& json, std::size_t root, const std::string& path) const {
  if (root >= roots_.size())
    throw ServiceProblem(404, concat("there is no root ", root, "; there are ", roots_.size()),
                         {{"root", "is not there"}});
  std::string rest = path.empty() ? "." : path;
  if (rest[0] == '/') throw ServiceProblem(403, "path must be relative to the root", {{"path", "must be relative"}});
  const detail::FileDescriptor folder(open_below(root, rest, path, O_RDONLY | O_DIRECTORY));
  const std::string place = rest == "." ? roots_[root] : join_path(roots_[root], rest);
  json.begin_object()
      .member("root", root)
      .member("folder", replace_invalid_utf8(roots_[root]))
      .member("path", replace_invalid_utf8(path));
  json.key("entries").begin_array();
  std::size_t shown = 0;
  for (const std::string& name : list_directory(concat("/proc/self/fd/", folder.get()))) {
    struct stat status {};
    if (name[0] == '.' || ::fstatat(folder.get(), name.c_str(), &status, AT_SYMLINK_NOFOLLOW) != 0) continue;
    const bool is_folder = S_ISDIR(status.st_mode);
    if (!is_folder && !S_ISREG(status.st_mode)) continue;
    if (replace_invalid_utf8(name) != name || ++shown > 1000) continue;
    const std::string kind = kind_of_path(join_path(place, name), is_folder);
    json.begin_object().member("name", name).member("path", replace_invalid_utf8(join_path(place, name)));
    json.member("folder", is_folder).member("kind", kind).member("bytes", is_folder ? 0 : status.st_size);
    if (kind == "prompts") json.member("lines", detail::count_lines(folder.get(), name.c_str()));
    json.end_object();
  }
  json.end_array().member("truncated", shown > 1000).end_object();
}

KDLIB_NAMESPACE_END

#endif
