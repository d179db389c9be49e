// SPDX-License-Identifier: Apache-2.0
// Bodies of param_groups.hpp.
#ifndef KDLIB_OPTIM_PARAM_GROUPS_INL_HPP
#define KDLIB_OPTIM_PARAM_GROUPS_INL_HPP

#include <cmath>
#include <utility>

#include "kdlib/optim/param_groups.hpp"

KDLIB_NAMESPACE_BEGIN

inline bool matches_pattern(std::string_view pattern, std::string_view name) {
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

inline ParameterGroups::ParameterGroups(std::vector<ParameterGroup> groups) : groups_(std::move(groups)) {
  for (const ParameterGroup& group : groups_) {
    require<ConfigError>(!group.pattern.empty(),
                         "[ParameterGroups] a pattern is empty; name parameters, as in \"*.mlp.*\"");
    require<ConfigError>(std::isfinite(group.rate) && group.rate >= 0, "[ParameterGroups] the rate multiplier of ",
                         group.pattern, " is ", group.rate, "; it must be 0 or above");
  }
}

inline double ParameterGroups::operator()(std::string_view name) const {
  for (const ParameterGroup& group : groups_)
    if (matches_pattern(group.pattern, name)) return group.rate;
  return 0;
}

inline SettingsList ParameterGroups::describe() const {
  std::string text;
  for (const ParameterGroup& group : groups_)
    text += (text.empty() ? "" : " ") + group.pattern + "=" + setting_text(group.rate);
  return {{"parameters", text}};
}

KDLIB_NAMESPACE_END

#endif
