// SPDX-License-Identifier: Apache-2.0
// Bodies of param_groups.hpp.
#ifndef KDLIB_OPTIM_PARAM_GROUPS_INL_HPP
#define KDLIB_OPTIM_PARAM_GROUPS_INL_HPP

#include <algorithm>
#include <cmath>
#include <utility>

#include "kdlib/optim/param_groups.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_FUNC bool matches_pattern(std::string_view pattern, std::string_view name) {
  std::size_t p = 0, n = 0, star = std::string_view::npos, retry = 0;
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      retry = n;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == name[n])) {
      ++p, ++n;
    } else if (star != std::string_view::npos) {  // let the last star take one character more
      p = star + 1;
      n = ++retry;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

namespace detail {
KDLIB_FUNC std::string nearest_to_pattern(std::string_view pattern, const std::vector<std::string>& names) {
  std::string piece, longest, plain;
  for (const char c : std::string(pattern) + "*") {
    if (c != '*' && c != '?') {
      piece += c, plain += c;
      continue;
    }
    if (piece.size() > longest.size()) longest = piece;
    piece.clear();
  }
  std::vector<std::pair<std::size_t, std::string>> near;
  std::vector<std::string> seen;
  for (const std::string& name : names) {
    std::string shape;
    for (const char c : name) shape += c >= '0' && c <= '9' ? '#' : c;
    if (std::find(seen.begin(), seen.end(), shape) != seen.end()) continue;
    seen.push_back(shape);
    // The pattern's pieces may stand anywhere: what of the name is left over costs nothing, what is not found does.
    near.emplace_back(partial_distance(longest.empty() ? plain : longest, name), name);
  }
  std::stable_sort(near.begin(), near.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
  std::string out;
  for (std::size_t i = 0; i < near.size() && i < 3; ++i) out += (i == 0 ? "; the nearest are " : ", ") + near[i].second;
  return out;
}
}  // namespace detail

KDLIB_FUNC ParameterGroups::ParameterGroups(std::vector<ParameterGroup> groups) : groups_(std::move(groups)) {
  for (const ParameterGroup& group : groups_) {
    require<ConfigError>(!group.pattern.empty(),
                         "[ParameterGroups] a pattern is empty; name parameters, as in \"*.mlp.*\"");
    require<ConfigError>(std::isfinite(group.rate) && group.rate >= 0, "[ParameterGroups] the rate multiplier of ",
                         group.pattern, " is ", group.rate, "; it must be 0 or above");
  }
}

KDLIB_FUNC double ParameterGroups::operator()(std::string_view name) const {
  for (const ParameterGroup& group : groups_)
    if (matches_pattern(group.pattern, name)) return group.rate;
  return 0;
}

KDLIB_FUNC void ParameterGroups::check_names(const std::vector<std::string>& names) const {
  for (const ParameterGroup& group : groups_) {
    bool fits = false;
    for (const std::string& name : names) fits = fits || matches_pattern(group.pattern, name);
    require<ConfigError>(fits, "[ParameterGroups] the pattern ", group.pattern, " fits none of the ", names.size(),
                         " parameters", detail::nearest_to_pattern(group.pattern, names));
  }
}

KDLIB_FUNC SettingsList ParameterGroups::describe() const {
  std::string text;
  for (const ParameterGroup& group : groups_)
    text += (text.empty() ? "" : " ") + group.pattern + "=" + setting_text(group.rate);
  return {{"parameters", text}};
}

KDLIB_NAMESPACE_END

#endif
