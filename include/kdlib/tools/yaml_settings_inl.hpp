// SPDX-License-Identifier: Apache-2.0
// Bodies of tools/yaml_settings.hpp.
#ifndef KDLIB_TOOLS_YAML_SETTINGS_INL_HPP
#define KDLIB_TOOLS_YAML_SETTINGS_INL_HPP

#include <yaml-cpp/yaml.h>

#include <cerrno>
#include <cstdio>
#include <cstring>

#include "kdlib/tools/yaml_settings.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {
inline std::string read_small_file(const std::string& path) {
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
}  // namespace detail

inline std::vector<FileSetting> read_yaml_settings(const std::string& path) {
  const std::string text = detail::read_small_file(path);
  std::vector<FileSetting> out;
  try {
    const YAML::Node root = YAML::Load(text);
    if (root.IsNull()) return out;
    require<UsageError>(root.IsMap(), path, ": the top level must be a mapping of option names to values");
    for (const auto& entry : root) {
      const int line = entry.first.Mark().line + 1;
      require<UsageError>(entry.first.IsScalar(), path, ":", line, ": a key must be an option name");
      FileSetting setting{entry.first.Scalar(), {}};
      for (const FileSetting& earlier : out)
        require<UsageError>(earlier.key != setting.key, path, ":", line, ": the key ", setting.key, " is given twice");
      if (entry.second.IsScalar()) {
        setting.values.push_back(entry.second.Scalar());
      } else {
        require<UsageError>(entry.second.IsSequence(), path, ":", line, ": ", setting.key,
                            " must be a value or a list of values");
        for (const auto& element : entry.second) {
          require<UsageError>(element.IsScalar(), path, ":", line, ": ", setting.key,
                              " must be a value or a list of values");
          setting.values.push_back(element.Scalar());
        }
      }
      out.push_back(std::move(setting));
    }
  } catch (const YAML::Exception& error) {
    fail<UsageError>(path, ":", error.mark.line + 1, ": not valid YAML: ", error.msg);
  }
  return out;
}

KDLIB_NAMESPACE_END

#endif
