// SPDX-License-Identifier: Apache-2.0
// Where tests find their data: tests/reference in the tree (always there) and an optional larger folder outside it.
#ifndef KDLIB_TESTS_SUPPORT_SHARED_HPP
#define KDLIB_TESTS_SUPPORT_SHARED_HPP

#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <optional>
#include <stdexcept>
#include <string>

namespace kdlib_tests {

/// The root of the tree: CTest sets KDLIB_SOURCE_DIR; a test started by hand is started there.
inline std::string source_dir() {
  const char* root = ::getenv("KDLIB_SOURCE_DIR");
  return root != nullptr ? root : ".";
}

inline bool exists(const std::string& path) {
  struct stat info {};
  return ::stat(path.c_str(), &info) == 0;
}

/// A file or folder below tests/reference, which is part of the tree: missing is a failure, not a skip.
inline std::string reference_file(const std::string& name) {
  const std::string path = source_dir() + "/tests/reference/" + name;
  if (!exists(path)) throw std::runtime_error("missing test data: " + path);
  return path;
}

/// A file or folder below $KDLIB_SHARED_DIR, else below ../shared beside the source tree; empty where there is none:
/// `if (!path) KDLIB_SKIP("reference/models/qwen3 is not here (set KDLIB_SHARED_DIR)");`
inline std::optional<std::string> shared_file(const std::string& name) {
  const char* root = ::getenv("KDLIB_SHARED_DIR");
  const std::string path = (root != nullptr ? std::string(root) : source_dir() + "/../shared") + "/" + name;
  if (!exists(path)) return std::nullopt;
  return path;
}

/// A fresh folder under $TMPDIR (or /tmp), removed with what it holds at the end of the scope.
class TemporaryDirectory {
 public:
  TemporaryDirectory() {
    const char* root = ::getenv("TMPDIR");
    path_ = std::string(root != nullptr ? root : "/tmp") + "/kdlib_test_XXXXXX";
    if (::mkdtemp(path_.data()) == nullptr) throw std::runtime_error("mkdtemp failed for " + path_);
  }
  ~TemporaryDirectory() {
    const std::string command = "rm -rf -- '" + path_ + "'";
    if (::system(command.c_str()) != 0) ::perror("rm");
  }
  TemporaryDirectory(const TemporaryDirectory&) = delete;
  TemporaryDirectory& operator=(const TemporaryDirectory&) = delete;

  const std::string& path() const { return path_; }
  std::string operator/(const std::string& name) const { return path_ + "/" + name; }

 private:
  std::string path_;
};

}  // namespace kdlib_tests

#endif
