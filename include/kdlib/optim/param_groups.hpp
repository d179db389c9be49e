// SPDX-License-Identifier: Apache-2.0
// Which parameters a run trains and at which multiple of the rate, by patterns over their names.
#ifndef KDLIB_OPTIM_PARAM_GROUPS_HPP
#define KDLIB_OPTIM_PARAM_GROUPS_HPP

#include <string>
#include <string_view>
#include <vector>

#include "kdlib/optim/concepts.hpp"

KDLIB_NAMESPACE_BEGIN

/// True when `name` fits `pattern` as a whole: `*` stands for any run of characters (dots too), `?` for one.
bool matches_pattern(std::string_view pattern, std::string_view name);

namespace detail {
/// "; the nearest are ...": parameters that hold the pattern's longest piece between stars, or else are the fewest
/// edits away from its text without stars. Numbers of layers count as equal, so that one name stands for all layers.
std::string nearest_to_pattern(std::string_view pattern, const std::vector<std::string>& names);
}  // namespace detail

/// Parameters whose name fits `pattern` learn at `rate` times the schedule's rate; 0 freezes them.
struct ParameterGroup {
  std::string pattern;
  double rate = 1;  // >= 0
};

/// The first group that fits a name decides; a name that fits none is frozen.
class ParameterGroups {
 public:
  ParameterGroups() = default;
  explicit ParameterGroups(std::vector<ParameterGroup> groups);

  /// The multiplier of the rate for this parameter, 0 = frozen.
  double operator()(std::string_view name) const;
  const std::vector<ParameterGroup>& groups() const { return groups_; }
  /// The groups as checkpoints compare them: "<pattern>=<rate> ..."
  SettingsList describe() const;
  /// ConfigError for a pattern that fits none of the names, with the nearest ones. Trainer calls it.
  void check_names(const std::vector<std::string>& names) const;

 private:
  std::vector<ParameterGroup> groups_;
};

/// Trains what fits one of the patterns: `only("*.mlp.*", "*.norm.weight")`.
template <class... Patterns>
ParameterGroups only(const Patterns&... patterns) {
  return ParameterGroups({ParameterGroup{std::string(patterns), 1.0}...});
}

/// Trains every parameter of the model.
inline ParameterGroups everything() { return only("*"); }

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/optim/param_groups_inl.hpp"
#endif

#endif
