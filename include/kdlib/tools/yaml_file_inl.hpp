// SPDX-License-Identifier: Apache-2.0
// Bodies of yaml_file.hpp.
#ifndef KDLIB_TOOLS_YAML_FILE_INL_HPP
#define KDLIB_TOOLS_YAML_FILE_INL_HPP

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <vector>

#include "kdlib/core/utf8.hpp"
#include "kdlib/tools/report.hpp"
#include "kdlib/tools/yaml_file.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {

KDLIB_TOOLS_FUNC std::string read_small_file(const std::string& path) {
  constexpr std::size_t limit = std::size_t{1} << 20;
  std::FILE* file = std::fopen(path.c_str(), "rb");
  require<IoError>(file != nullptr, "[config] cannot open ", path, ": ", std::strerror(errno));
  std::string text(limit + 1, '\0');
  const std::size_t size = std::fread(text.data(), 1, text.size(), file);
  const bool broken = std::ferror(file) != 0;
  std::fclose(file);
  require<IoError>(!broken, "[config] cannot read ", path);
  require<UsageError>(size <= limit, path, ": a config file may have 1 MiB at most");
  text.resize(size);
  return text;
}

/// UsageError names the line that is not UTF-8.
KDLIB_TOOLS_FUNC void require_utf8_file(const std::string& path, const std::string& text) {
  const std::size_t bad = find_invalid_utf8(text);
  require<UsageError>(
      bad == text.npos, path, ":",
      1 + std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(std::min(bad, text.size())), '\n'),
      ": the line is not UTF-8");
}

KDLIB_TOOLS_FUNC YAML::Node YamlFile::load() const {
  const std::string text = read_small_file(path_);
  require_utf8_file(path_, text);
  try {
    return YAML::Load(text);
  } catch (const YAML::Exception& error) {
    fail<UsageError>(path_, ":", error.mark.line + 1, ": not valid YAML: ", error.msg);
  }
}

KDLIB_TOOLS_FUNC std::string YamlFile::place(const YAML::Node& node) const {
  return concat(path_, ":", node.Mark().line + 1);
}

KDLIB_TOOLS_FUNC void YamlFile::check_keys(const YAML::Node& node, const char* what,
                                           std::initializer_list<const char*> known) const {
  require<UsageError>(node.IsMap(), place(node), ": ", what, " must be a mapping");
  std::vector<std::string> seen;
  for (const auto& entry : node) {
    const std::string key = entry.first.IsScalar() ? entry.first.Scalar() : std::string("[...]");
    std::string list;
    for (const char* name : known) list += concat(list.empty() ? "" : ", ", name);
    require<UsageError>(std::find(known.begin(), known.end(), key) != known.end(), place(entry.first), ": ", what,
                        " has the key ", key, "; it can have ", list);
    require<UsageError>(std::find(seen.begin(), seen.end(), key) == seen.end(), place(entry.first), ": the key ", key,
                        " is given twice");
    seen.push_back(key);
  }
}

KDLIB_TOOLS_FUNC std::string YamlFile::text(const YAML::Node& node, const char* key) const {
  require<UsageError>(node.IsScalar(), place(node), ": ", key, " must be one value");
  return node.Scalar();
}

KDLIB_TOOLS_FUNC void YamlFile::refuse_number(const YAML::Node& node, const char* key, const char* needed) const {
  fail<UsageError>(place(node), ": ", key, " is ", node.IsScalar() ? node.Scalar() : std::string("[...]"),
                   "; it must be a ", needed);
}

KDLIB_TOOLS_FUNC bool YamlFile::flag(const YAML::Node& node, const char* key) const {
  bool value = false;
  require<UsageError>(node.IsScalar() && YAML::convert<bool>::decode(node, value), place(node), ": ", key,
                      " must be true or false");
  return value;
}

KDLIB_TOOLS_FUNC int YamlFile::word(const YAML::Node& node, const char* key, std::span<const char* const> words) const {
  const std::string value = text(node, key);
  std::string list;
  int at = 0;
  for (const char* known : words) {
    if (value == known) return at;
    list += concat(list.empty() ? "" : ", ", known);
    ++at;
  }
  fail<UsageError>(place(node), ": ", key, " is ", value, "; it must be one of ", list);
}

}  // namespace detail

KDLIB_NAMESPACE_END

#endif
