// SPDX-License-Identifier: Apache-2.0
// Bodies of recipe/stages.hpp.
#ifndef KDLIB_RECIPE_STAGES_INL_HPP
#define KDLIB_RECIPE_STAGES_INL_HPP

#include <algorithm>
#include <cctype>
#include <cmath>

#include "kdlib/nn/path_pattern.hpp"
#include "kdlib/recipe/settings.hpp"
#include "kdlib/recipe/stages.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Python's re.search as a full match.
KDLIB_FUNC PathPattern searched_pattern(const std::string& pattern) { return PathPattern(".*(?:" + pattern + ").*"); }

/// The words of a regular expression with stars between them: what nearest_to_pattern can compare.
KDLIB_FUNC std::string pattern_words(const std::string& pattern) {
  std::string out;
  bool escaped = false;
  for (const char c : pattern) {
    const bool word = std::isalnum(static_cast<unsigned char>(c)) != 0 || c == '_' || (escaped && c == '.');
    escaped = c == '\\';
    out += word ? c : '*';
  }
  return out;
}

}  // namespace detail

KDLIB_FUNC std::string RateGroups::text() const {
  if (empty()) return {};
  std::string out;
  for (const RateGroup& group : list) out += concat(group.pattern, "=", setting_text(group.rate), " ");
  return out + "default=" + setting_text(default_rate);
}

KDLIB_FUNC std::string stages_text(const std::vector<RecipeStage>& stages) {
  std::string out;
  for (const RecipeStage& s : stages) {
    out += concat(out.empty() ? "" : "; ", s.name, ": ",
                  s.steps > 0 ? concat(s.steps, " steps") : concat(setting_text(s.epochs), " epochs"));
    if (!s.groups.empty()) out += ", " + s.groups.text();
    if (s.learning_rate) out += ", rate " + setting_text(*s.learning_rate);
    if (s.schedule) out += concat(", ", recipe_word(*s.schedule));
    if (s.warmup) out += concat(", warm-up ", *s.warmup);
    if (s.restart_text) out += ", text from its beginning";
  }
  return out;
}

KDLIB_FUNC std::int64_t stage_steps(const RecipeStage& stage, std::int64_t examples, std::int64_t step_examples) {
  if (stage.steps > 0) return stage.steps;
  const double steps = std::ceil(stage.epochs * static_cast<double>(examples) / static_cast<double>(step_examples));
  return std::max<std::int64_t>(1, static_cast<std::int64_t>(steps));
}

KDLIB_FUNC void check_groups(const RateGroups& groups, const std::string& place) {
  for (const RateGroup& group : groups.list) {
    require<ConfigError>(!group.pattern.empty(), "[distil] ", place,
                         ": a pattern is empty; it needs a part of the names it is for, as in mlp\\.");
    require<ConfigError>(std::isfinite(group.rate) && group.rate >= 0, "[distil] ", place, ": the rate of ",
                         group.pattern, " is ", setting_text(group.rate), "; it must be 0 (frozen) or above");
    try {
      static_cast<void>(detail::searched_pattern(group.pattern));
    } catch (const ConfigError& error) {
      fail<ConfigError>("[distil] ", place, ": the pattern ", group.pattern, " cannot be read: ", error.what());
    }
  }
  require<ConfigError>(std::isfinite(groups.default_rate) && groups.default_rate >= 0, "[distil] ", place,
                       ": default_rate is ", setting_text(groups.default_rate), "; it must be 0 (frozen) or above");
}

KDLIB_FUNC void check_stages(const std::vector<RecipeStage>& stages, const std::string& place) {
  for (std::size_t i = 0; i < stages.size(); ++i) {
    const RecipeStage& s = stages[i];
    require<ConfigError>(!s.name.empty(), "[distil] ", place, ": stage ", i + 1,
                         " has no name; checkpoints are told apart by it");
    for (std::size_t j = 0; j < i; ++j)
      require<ConfigError>(stages[j].name != s.name, "[distil] ", place, ": stages ", j + 1, " and ", i + 1,
                           " are both called ", s.name);
    const std::string stage = concat(place, ": stage '", s.name, "'");
    require<ConfigError>(s.steps >= 0 && std::isfinite(s.epochs) && s.epochs >= 0 && (s.steps > 0) != (s.epochs > 0),
                         "[distil] ", stage, " has steps ", s.steps, " and epochs ", setting_text(s.epochs),
                         "; it needs one of them, above 0");
    require<ConfigError>(!s.learning_rate || (std::isfinite(*s.learning_rate) && *s.learning_rate > 0), "[distil] ",
                         stage, ": learning_rate is ", setting_text(s.learning_rate.value_or(0)),
                         "; it must be above 0");
    require<ConfigError>(!s.warmup || *s.warmup >= 0, "[distil] ", stage, ": warmup is ", s.warmup.value_or(0),
                         " steps; it must be 0 or above");
    check_groups(s.groups, stage);
  }
}

KDLIB_FUNC GroupSelection::GroupSelection(const RateGroups& groups, const std::vector<Named>& parameters,
                                          const std::string& place)
    : text_(groups.text()) {
  std::vector<PathPattern> patterns;
  for (const RateGroup& group : groups.list) {
    patterns.push_back(detail::searched_pattern(group.pattern));
    uses_.push_back({group.pattern, group.rate});
  }
  uses_.push_back({"", groups.default_rate});
  std::vector<bool> fits(patterns.size(), false);
  std::vector<std::string> names;
  bool trains = false;
  for (const auto& [name, elements] : parameters) {
    std::size_t chosen = patterns.size();
    for (std::size_t i = patterns.size(); i-- > 0;) {
      if (!patterns[i].matches(name)) continue;
      fits[i] = true;
      chosen = i;
    }
    ++uses_[chosen].tensors;
    uses_[chosen].elements += elements;
    trains = trains || uses_[chosen].rate > 0;
    rates_.emplace_back(name, uses_[chosen].rate);
    names.push_back(name);
  }
  for (std::size_t i = 0; i < patterns.size(); ++i)
    require<ConfigError>(fits[i], "[distil] ", place, ": the pattern ", uses_[i].pattern, " fits none of the ",
                         names.size(), " parameters that this run may train",
                         detail::nearest_to_pattern(detail::pattern_words(uses_[i].pattern), names));
  require<ConfigError>(trains, "[distil] ", place, " trains nothing: the rate of all ", names.size(),
                       " parameters that this run may train is 0");
  std::sort(rates_.begin(), rates_.end());
}

KDLIB_FUNC double GroupSelection::operator()(std::string_view name) const {
  const auto at = std::lower_bound(rates_.begin(), rates_.end(), name,
                                   [](const auto& entry, std::string_view wanted) { return entry.first < wanted; });
  return at != rates_.end() && at->first == name ? at->second : 0;
}

KDLIB_FUNC SettingsList GroupSelection::describe() const {
  if (text_.empty()) return {};
  return {{"parameters", text_}};
}

KDLIB_FUNC std::vector<std::string> GroupSelection::notes() const {
  std::vector<std::string> out;
  for (const Use& use : uses_) {
    const std::string what = use.pattern.empty() ? std::string("all other parameters") : use.pattern;
    if (use.pattern.empty() && use.tensors == 0) continue;
    const std::string rate = use.rate == 0 ? std::string("frozen") : concat("rate x ", setting_text(use.rate));
    out.push_back(use.tensors == 0
                      ? concat("warning: ", what, " (", rate, ") decides nothing: earlier patterns take its names")
                      : concat(what, ": ", rate, ", ", use.tensors, " tensors, ", use.elements, " parameters"));
  }
  return out;
}

KDLIB_NAMESPACE_END

#endif
