// SPDX-License-Identifier: Apache-2.0
// Bodies of tools/yaml_settings.hpp.
#ifndef KDLIB_TOOLS_YAML_SETTINGS_INL_HPP
#define KDLIB_TOOLS_YAML_SETTINGS_INL_HPP

#include "kdlib/tools/yaml_file.hpp"
#include "kdlib/tools/yaml_settings.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_TOOLS_FUNC std::vector<FileSetting> read_yaml_settings(const std::string& path) {
  const YAML::Node root = detail::YamlFile(path).load();
  std::vector<FileSetting> out;
  if (root.IsNull()) return out;
  require<UsageError>(root.IsMap(), path, ": the top level must be a mapping of option names to values");
  const auto refused = [](const std::string& key) {
    return concat(key, " must be a value or a list of values",
                  key == "loss"
                      ? ": a sum as a text, \"0.8 reverse_kl(temperature=2) + 0.2 cross_entropy\", or a list of "
                        "its terms as texts"
                      : "");
  };
  for (const auto& entry : root) {
    const int line = entry.first.Mark().line + 1;
    require<UsageError>(entry.first.IsScalar(), path, ":", line, ": a key must be an option name");
    FileSetting setting{entry.first.Scalar(), {}};
    for (const FileSetting& earlier : out)
      require<UsageError>(earlier.key != setting.key, path, ":", line, ": the key ", setting.key, " is given twice");
    if (entry.second.IsScalar()) {
      setting.values.push_back(entry.second.Scalar());
    } else {
      require<UsageError>(entry.second.IsSequence(), path, ":", line, ": ", refused(setting.key));
      for (const auto& element : entry.second) {
        require<UsageError>(element.IsScalar(), path, ":", line, ": ", refused(setting.key));
        setting.values.push_back(element.Scalar());
      }
    }
    out.push_back(std::move(setting));
  }
  return out;
}

KDLIB_NAMESPACE_END

#endif
