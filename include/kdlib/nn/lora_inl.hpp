// SPDX-License-Identifier: Apache-2.0
// Bodies of lora.hpp.
#ifndef KDLIB_NN_LORA_INL_HPP
#define KDLIB_NN_LORA_INL_HPP

#include <algorithm>
#include <cmath>

#include "kdlib/nn/lora.hpp"
#include "kdlib/nn/path_pattern.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

KDLIB_FUNC bool ends_with_module(std::string_view path, std::string_view name) {
  return path == name ||
         (path.size() > name.size() && path.ends_with(name) && path[path.size() - name.size() - 1] == '.');
}

KDLIB_FUNC bool all_digits(std::string_view text) {
  for (const char c : text)
    if (c < '0' || c > '9') return false;
  return !text.empty() && text.size() < 10;
}

KDLIB_FUNC std::int64_t layer_index(std::string_view path, std::string_view list) {
  std::vector<std::string_view> parts;
  for (std::size_t begin = 0; begin <= path.size();) {
    const std::size_t dot = std::min(path.find('.', begin), path.size());
    parts.push_back(path.substr(begin, dot - begin));
    begin = dot + 1;
  }
  for (std::size_t i = list.empty() ? 2 : 1; i + 1 < parts.size(); ++i) {
    if (!all_digits(parts[i]) || (!list.empty() && parts[i - 1] != list)) continue;
    std::int64_t n = 0;
    for (const char c : parts[i]) n = n * 10 + (c - '0');
    return n;
  }
  return -1;
}

/// layer_index() of a list that may be a regular expression, as PEFT puts it into its own. ConfigError: the first group
/// of the expression is not the number.
KDLIB_FUNC std::int64_t listed_layer_index(std::string_view path, const std::string& list) {
  if (list.find_first_of(".*+?[](){}|\\^$") == std::string::npos) return layer_index(path, list);
  const auto number = PathPattern::first_group(concat("(?:^|.*?\\.)", list, "\\.(\\d+)\\."), path);
  if (!number) return -1;
  require<ConfigError>(all_digits(*number), "[lora] layers_pattern \"", list, "\": its first group is \"", *number,
                       "\" for ", path, "; a number is needed, so write groups as (?:...)");
  std::int64_t n = 0;
  for (const char c : *number) n = n * 10 + (c - '0');
  return n;
}

KDLIB_FUNC bool fits_pattern(const std::string& key, std::string_view path) {
  return PathPattern(concat("(.*\\.)?(", key, ")$")).matches(path);
}

/// The value of the first pattern that fits the path.
template <class Value>
const Value* find_pattern(const std::vector<std::pair<std::string, Value>>& patterns, std::string_view path) {
  for (const auto& [key, value] : patterns)
    if (fits_pattern(key, path)) return &value;
  return nullptr;
}

}  // namespace detail

KDLIB_FUNC ModuleChoice::ModuleChoice(std::initializer_list<const char*> list) : names(list.begin(), list.end()) {}

KDLIB_FUNC bool ModuleChoice::holds(std::string_view path) const {
  if (all) return true;
  if (!pattern.empty()) return PathPattern(pattern).matches(path);
  for (const std::string& name : names)
    if (detail::ends_with_module(path, name)) return true;
  return false;
}

KDLIB_FUNC bool lora_targets(const LoraSettings& s, std::string_view path) {
  if (!s.exclude.empty() && s.exclude.holds(path)) return false;
  if (!s.targets.holds(path)) return false;
  if (s.layers.empty()) return true;
  for (const std::string& name : s.targets.names)
    if (path == name) return true;  // listed by its full path
  require<ConfigError>(s.targets.pattern.empty(),
                       "[lora] layers_to_transform works with a list of target modules, not with a regular expression");
  const auto chosen = [&](std::int64_t index) {
    return index >= 0 && std::find(s.layers.begin(), s.layers.end(), index) != s.layers.end();
  };
  if (s.layer_lists.empty()) return chosen(detail::layer_index(path, {}));
  for (const std::string& list : s.layer_lists)
    if (const std::int64_t index = detail::listed_layer_index(path, list); index >= 0) return chosen(index);
  return false;
}

KDLIB_FUNC std::int64_t lora_rank(const LoraSettings& s, std::string_view path) {
  const std::int64_t* found = detail::find_pattern(s.rank_pattern, path);
  const std::int64_t rank = found != nullptr ? *found : s.rank;
  require<ConfigError>(rank > 0 && rank < 65536, "[lora] rank ", rank, " of ", path, "; it must be from 1 to 65535");
  return rank;
}

KDLIB_FUNC double lora_alpha(const LoraSettings& s, std::string_view path) {
  const double* found = detail::find_pattern(s.alpha_pattern, path);
  const double alpha = found != nullptr ? *found : s.alpha;
  require<ConfigError>(std::isfinite(alpha), "[lora] alpha of ", path, " is not finite");
  return alpha;
}

KDLIB_FUNC double lora_scale(std::int64_t rank, double alpha, bool rslora) {
  return alpha / (rslora ? std::sqrt(static_cast<double>(rank)) : static_cast<double>(rank));
}

KDLIB_NAMESPACE_END

#endif
