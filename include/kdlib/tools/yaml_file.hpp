// SPDX-License-Identifier: Apache-2.0
// A YAML file whose values are read one by one; every error names its place. Needs yaml-cpp; for programs only.
#ifndef KDLIB_TOOLS_YAML_FILE_HPP
#define KDLIB_TOOLS_YAML_FILE_HPP

#include <yaml-cpp/yaml.h>

#include <initializer_list>
#include <span>
#include <string>
#include <type_traits>
#include <utility>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Reads the values of a YAML file; messages name file and line.
class YamlFile {
 public:
  explicit YamlFile(std::string path) : path_(std::move(path)) {}

  /// Reads the file. UsageError names the line of broken YAML. IoError: there is no such file.
  YAML::Node load() const;
  std::string place(const YAML::Node& node) const;

  /// Throws UsageError if the node is not a mapping, or if it has a key that is not in `known` or that is given twice.
  void check_keys(const YAML::Node& node, const char* what, std::initializer_list<const char*> known) const;
  std::string text(const YAML::Node& node, const char* key) const;
  template <class N>
  N number(const YAML::Node& node, const char* key) const {
    N value{};
    if (!node.IsScalar() || !YAML::convert<N>::decode(node, value))
      refuse_number(node, key, std::is_integral_v<N> ? "whole number" : "number");
    return value;
  }
  bool flag(const YAML::Node& node, const char* key) const;
  /// Returns the index of the node's word in the list.
  int word(const YAML::Node& node, const char* key, std::span<const char* const> words) const;

 private:
  [[noreturn]] void refuse_number(const YAML::Node& node, const char* key, const char* needed) const;

  std::string path_;
};

}  // namespace detail

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/yaml_file_inl.hpp"
#endif

#endif
