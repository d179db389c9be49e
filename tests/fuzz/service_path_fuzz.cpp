// SPDX-License-Identifier: Apache-2.0
// Arbitrary bytes as the address of a request and as paths of it: what is opened lies in the allowed folder, whatever
// dots, escapes and links lead elsewhere.
#include <sys/stat.h>
#include <unistd.h>

#include <climits>
#include <cstdint>
#include <cstdlib>
#include <string>

#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/json_writer.hpp"
#include "kdlib/io/utf8.hpp"
// The service's bodies are in no library that fuzz targets link.
#include "kdlib/tools/service/message_inl.hpp"
#include "kdlib/tools/service/metrics_tail_inl.hpp"
#include "kdlib/tools/service/safe_path_inl.hpp"

using namespace kdlib;

namespace {

void must(bool holds) {
  if (!holds) std::abort();
}

/// A root with files, folders and links that stay and that leave, and a secret beside it.
struct Place {
  std::string folder, root;

  Place() {
    char name[] = "/tmp/kdlib-fuzz-path-XXXXXX";
    must(::mkdtemp(name) != nullptr);
    folder = name;
    root = folder + "/shelf";
    for (const char* below : {"/shelf", "/shelf/a", "/shelf/a/b", "/secret", "/shelfx"})
      must(::mkdir((folder + below).c_str(), 0700) == 0);
    for (const char* file : {"/shelf/a/b/good.jsonl", "/shelf/good", "/shelf/a/ good"})
      write_file_atomically(folder + file, "good\n");
    for (const char* file : {"/secret/token", "/shelfx/token", "/token"})
      write_file_atomically(folder + file, "secret\n");
    const std::pair<const char*, std::string> links[] = {{"/shelf/up", ".."},
                                                         {"/shelf/out", "../secret"},
                                                         {"/shelf/a/token", "../../secret/token"},
                                                         {"/shelf/abs", "/etc"},
                                                         {"/shelf/far", folder + "/secret"},
                                                         {"/shelf/self", "."},
                                                         {"/shelf/in", "a/b"},
                                                         {"/shelf/loop", "loop"},
                                                         {"/shelf/magic", "/proc/self/cwd"},
                                                         {"/shelf/a/back", "../good"},
                                                         {"/shelf/a/b/climb", "../../../.."},
                                                         {"/shelf/proc", "/proc/self/root"}};
    for (const auto& [path, to] : links) must(::symlink(to.c_str(), (folder + path).c_str()) == 0);
  }
  ~Place() { remove_tree(folder); }
};

void open_path(const Place& place, const AllowedRoots& roots, const std::string& path) {
  if (path.find('\0') != std::string::npos) return;  // requests with one are refused before
  try {
    std::uint64_t size = 0;
    const int fd = roots.open_file(path, size);
    must(detail::read_range(fd, 0, size) == "good\n");
    ::close(fd);
  } catch (const ServiceProblem& problem) {
    must(problem.status() == 403 || problem.status() == 404);
  }
  try {
    const std::string found = roots.checked(path);
    char real[PATH_MAX];
    must(::realpath(found.c_str(), real) != nullptr && detail::lies_in(real, place.root));
  } catch (const ServiceProblem& problem) {
    must(problem.status() == 403 || problem.status() == 404);
  }
  try {
    JsonWriter json;
    roots.list(json, 0, path);
    must(json.text().find("secret\"") == std::string::npos || path.find("secret") != std::string::npos);
  } catch (const ServiceProblem& problem) {
    must(problem.status() == 403 || problem.status() == 404);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const Place place;
  static const AllowedRoots roots({place.root});
  const std::string text(reinterpret_cast<const char*>(data), size);
  ServiceRequest request;
  if (read_target(text, request)) {
    must(find_invalid_utf8(request.path) == std::string_view::npos && request.path[0] == '/');
    must(request.path.find('\0') == std::string::npos);
    open_path(place, roots, request.path.substr(1));
    for (const auto& [name, value] : request.query) open_path(place, roots, value);
  }
  open_path(place, roots, text);
  open_path(place, roots, place.root + "/" + text);
  open_path(place, roots, place.root + text);
  return 0;
}
