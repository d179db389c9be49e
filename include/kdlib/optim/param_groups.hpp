// SPDX-License-Identifier: Apache-2.0
// Patterns over parameter names select which parameters a run trains and at which multiple of the rate.
#ifndef KDLIB_OPTIM_PARAM_GROUPS_HPP
#define KDLIB_OPTIM_PARAM_GROUPS_HPP

#include <string>
#include <string_view>
#include <vector>

#include "kdlib/optim/concepts.hpp"

KDLIB_NAMESPACE_BEGIN

/// True if the whole of `name` fits `pattern`: `*` stands for any run of characters (dots too), `?` for one character.
bool matches_pattern(std::string_view pattern, std::string_view name);

namespace detail {
/// Returns "; the nearest are ..." with at most three names: those in which the pattern's longest piece between `*` and
/// `?` is found with the fewest edits. Names that differ only in digits count as one name, so one name stands for all
/// layers.
std::string nearest_to_pattern(std::string_view pattern, const std::vector<std::string>& names);
}  // namespace detail

/// Parameters whose name fits `pattern` learn at `rate` times the schedule's rate; a rate of 0 freezes them.
struct ParameterGroup {
  std::string pattern;
  double rate = 1;  // >= 0
};

/// A list of groups. The first group that fits a name decides. A name that fits no group is frozen.
class ParameterGroups {
 public:
  ParameterGroups() = default;
  /// Throws ConfigError for an empty pattern, and for a rate that is negative or not finite.
  explicit ParameterGroups(std::vector<ParameterGroup> groups);

  /// Returns the factor of the rate for this parameter; 0: frozen.
  double operator()(std::string_view name) const;
  const std::vector<ParameterGroup>& groups() const { return groups_; }
  /// Returns the groups as checkpoints compare them: "<pattern>=<rate> ...".
  SettingsList describe() const;
  /// Throws ConfigError for a pattern that fits none of the names; the message has the nearest names. Trainer calls
  /// this.
  void check_names(const std::vector<std::string>& names) const;

 private:
  std::vector<ParameterGroup> groups_;
};

/// Trains the parameters that fit one of the patterns: `only("*.mlp.*", "*.norm.weight")`.
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
