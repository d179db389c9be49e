// SPDX-License-Identifier: Apache-2.0
// Reads a flat YAML file of settings for Options::config_file. Needs yaml-cpp; for programs only.
#ifndef KDLIB_TOOLS_YAML_SETTINGS_HPP
#define KDLIB_TOOLS_YAML_SETTINGS_HPP

#include <string>
#include <vector>

#include "kdlib/tools/options.hpp"

KDLIB_NAMESPACE_BEGIN

/// Reads keys that each have a scalar or a list of scalars, in the order of the file. UsageError, naming the file, the
/// line and the key: a value is nested more deeply, a key is given twice, or the YAML is broken. IoError: the file
/// cannot be read. An empty file has no settings.
std::vector<FileSetting> read_yaml_settings(const std::string& path);

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/yaml_settings_inl.hpp"
#endif

#endif
