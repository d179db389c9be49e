// SPDX-License-Identifier: Apache-2.0
// Reading the reference data of tokenizers: files that may be packed with xz, and JSON lines.
#ifndef KDLIB_TESTS_TEXT_REFERENCE_FILES_HPP
#define KDLIB_TESTS_TEXT_REFERENCE_FILES_HPP

#include <stdio.h>
#include <stdlib.h>

#include <optional>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

#include "kdlib/io/atomic_file.hpp"
#include "kdlib/io/json.hpp"
#include "support/shared.hpp"

namespace kdlib_tests {

inline bool have_xz() {
  static const bool found = ::system("xz --version > /dev/null 2>&1") == 0;
  return found;
}

/// The bytes of a file; one whose name ends with .xz is unpacked.
inline std::string read_maybe_packed(const std::string& path) {
  if (path.size() < 3 || path.substr(path.size() - 3) != ".xz") return kdlib::read_file(path);
  const std::string command = "xz -dc '" + path + "'";
  FILE* pipe = ::popen(command.c_str(), "r");
  if (pipe == nullptr) throw std::runtime_error("cannot run: " + command);
  std::string out;
  char block[1 << 16];
  for (std::size_t n; (n = ::fread(block, 1, sizeof block, pipe)) > 0;) out.append(block, n);
  if (::pclose(pipe) != 0) throw std::runtime_error("failed: " + command);
  return out;
}

/// `name` or `name`.xz below the shared folder.
inline std::optional<std::string> shared_maybe_packed(const std::string& name) {
  if (auto path = shared_file(name)) return path;
  return shared_file(name + ".xz");
}

inline std::vector<kdlib::Json> read_json_lines(const std::string& path) {
  const std::string text = read_maybe_packed(path);
  std::vector<kdlib::Json> lines;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    if (end > at)
      lines.push_back(kdlib::Json::parse(text.substr(at, end - at), path + ":" + std::to_string(lines.size() + 1)));
    at = end + 1;
  }
  return lines;
}

inline std::vector<std::int32_t> id_list(const kdlib::Json& list) {
  std::vector<std::int32_t> ids;
  for (const kdlib::Json& id : list) ids.push_back(static_cast<std::int32_t>(id.as_int()));
  return ids;
}

inline std::string hex(std::string_view bytes) {
  constexpr char digits[] = "0123456789abcdef";
  std::string out;
  for (const char c : bytes) {
    out += digits[static_cast<unsigned char>(c) >> 4];
    out += digits[static_cast<unsigned char>(c) & 15];
  }
  return out;
}

}  // namespace kdlib_tests

#endif
