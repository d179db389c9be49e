// SPDX-License-Identifier: Apache-2.0
// Bodies of sweep_plan.hpp.
#ifndef KDLIB_TOOLS_SWEEP_PLAN_INL_HPP
#define KDLIB_TOOLS_SWEEP_PLAN_INL_HPP

#include <yaml-cpp/yaml.h>

#include <algorithm>
#include <set>

#include "kdlib/io/paths.hpp"
#include "kdlib/tools/sweep_plan.hpp"
#include "kdlib/tools/yaml_settings.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

struct SweepValue {
  std::string label;
  std::vector<FileSetting> settings;
};

class SweepReader {
 public:
  explicit SweepReader(std::string path) { plan_.path = std::move(path); }

  SweepPlan read() {
    try {
      const YAML::Node root = YamlFile(plan_.path).load();
      check(root.IsMap(), root, "the top level must be a mapping with out, settings, grid and except");
      for (const auto& entry : root) top(entry.first.Scalar(), entry.second);
      check(!plan_.out.empty(), root, "out is missing: the folder of the sweep");
      check(!axes_.empty(), root, "grid is missing");
    } catch (const YAML::Exception& error) {
      fail<UsageError>(plan_.path, ":", error.mark.line + 1, ": not valid YAML: ", error.msg);
    }
    multiply();
    return std::move(plan_);
  }

 private:
  void check(bool good, const YAML::Node& node, const std::string& problem) const {
    require<UsageError>(good, plan_.path, ":", node.Mark().line + 1, ": ", problem);
  }
  std::string scalar(const YAML::Node& node, const std::string& what) const {
    check(node.IsScalar() && !node.Scalar().empty(), node, what + " must be a value");
    // yaml-cpp makes one byte of \N and \_
    check(find_invalid_utf8(node.Scalar()) == std::string::npos, node,
          what + " is not UTF-8 text; write the character");
    return node.Scalar();
  }

  void top(const std::string& key, const YAML::Node& node) {
    if (key == "out") plan_.out = scalar(node, key);
    else if (key == "settings") settings_ = settings(node, key);
    else if (key == "grid") grid(node);
    else if (key == "except") except(node);
    else check(false, node, "there is no key " + key + "; there are out, settings, grid and except");
  }

  std::vector<FileSetting> settings(const YAML::Node& node, const std::string& what) const {
    check(node.IsMap(), node, what + " must be a mapping of distil's option names to values");
    std::vector<FileSetting> out;
    for (const auto& entry : node) {
      FileSetting setting{scalar(entry.first, "a key"), {}};
      check(setting.key != "out" && setting.key != "resume" && setting.key != "dry-run", entry.first,
            setting.key + " belongs to the sweep, not to its runs");
      for (const FileSetting& other : out)
        check(other.key != setting.key, entry.first, "the key " + setting.key + " is given twice");
      if (entry.second.IsSequence())
        for (const auto& element : entry.second) setting.values.push_back(scalar(element, setting.key));
      else setting.values.push_back(scalar(entry.second, setting.key));
      check(!setting.values.empty(), entry.second, setting.key + " is an empty list");
      out.push_back(std::move(setting));
    }
    return out;
  }

  void grid(const YAML::Node& node) {
    check(node.IsMap(), node, "grid must be a mapping of axes");
    for (const auto& entry : node) {
      const std::string axis = scalar(entry.first, "an axis");
      check(std::find(plan_.axes.begin(), plan_.axes.end(), axis) == plan_.axes.end(), entry.first,
            "the axis " + axis + " is given twice");
      std::vector<SweepValue> values;
      if (entry.second.IsMap()) {
        for (const auto& value : entry.second)
          values.push_back({scalar(value.first, "a label"), settings(value.second, axis + " " + value.first.Scalar())});
      } else {
        check(entry.second.IsSequence(), entry.second,
              axis + " must be a list of values or a mapping of labels to settings");
        check(axis != "out" && axis != "resume" && axis != "dry-run", entry.first,
              axis + " belongs to the sweep, not to its runs");
        for (const auto& value : entry.second) values.push_back({scalar(value, axis), {{axis, {value.Scalar()}}}});
      }
      check(!values.empty(), entry.second, axis + " has no values");
      std::set<std::string_view> labels;
      for (const SweepValue& value : values)
        check(labels.insert(value.label).second, entry.second, axis + " has the value " + value.label + " twice");
      plan_.axes.push_back(axis);
      axes_.push_back(std::move(values));
    }
  }

  void except(const YAML::Node& node) {
    check(node.IsSequence(), node, "except must be a list of mappings axis: label");
    for (const auto& rule : node) {
      check(rule.IsMap(), rule, "except must be a list of mappings axis: label");
      std::vector<std::pair<std::string, std::vector<std::string>>> conditions;
      for (const auto& entry : rule) {
        std::vector<std::string> labels;
        if (entry.second.IsSequence())
          for (const auto& element : entry.second) labels.push_back(scalar(element, "a label"));
        else labels.push_back(scalar(entry.second, "a label"));
        conditions.emplace_back(scalar(entry.first, "an axis"), labels);
      }
      excluded_.push_back(conditions);
      excluded_at_.push_back(rule.Mark().line + 1);
    }
  }

  bool left_out(const SweepRun& run) const {
    for (const auto& rule : excluded_) {
      bool fits = true;
      for (const auto& [axis, labels] : rule) {
        const auto at =
            static_cast<std::size_t>(std::find(plan_.axes.begin(), plan_.axes.end(), axis) - plan_.axes.begin());
        fits = fits && std::find(labels.begin(), labels.end(), run.labels[at]) != labels.end();
      }
      if (fits) return true;
    }
    return false;
  }

  /// A misspelt axis or label would silently leave nothing out.
  void check_excluded() const {
    for (std::size_t r = 0; r < excluded_.size(); ++r)
      for (const auto& [axis, labels] : excluded_[r]) {
        const auto at =
            static_cast<std::size_t>(std::find(plan_.axes.begin(), plan_.axes.end(), axis) - plan_.axes.begin());
        require<UsageError>(at < plan_.axes.size(), plan_.path, ":", excluded_at_[r], ": except: there is no axis ",
                            axis);
        for (const std::string& label : labels) {
          bool known = false;
          for (const SweepValue& value : axes_[at]) known = known || value.label == label;
          require<UsageError>(known, plan_.path, ":", excluded_at_[r], ": except: the axis ", axis, " has no value ",
                              label);
        }
      }
  }

  static std::string folder_text(const std::string& text) {
    std::string out;
    for (const char c : text)
      out += (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' ||
                     c == '-' || c == '+'
                 ? c
                 : '-';
    return out;
  }

  static void put(std::vector<FileSetting>& into, const FileSetting& setting) {
    const auto at = std::find_if(into.begin(), into.end(), [&](const FileSetting& s) { return s.key == setting.key; });
    if (at == into.end()) into.push_back(setting);
    else *at = setting;
  }

  /// The product of the axes, refused where nobody could wait for it.
  std::size_t grid_size() const {
    std::size_t size = 1;
    std::string factors;
    for (const auto& axis : axes_) {
      factors += concat(factors.empty() ? "" : " x ", axis.size());
      const bool fits = size <= SweepPlan::max_grid && axis.size() <= SweepPlan::max_grid / size;
      size = fits ? size * axis.size() : SweepPlan::max_grid + 1;
    }
    require<UsageError>(size <= SweepPlan::max_grid, plan_.path, ": the grid has ", factors, " runs; a sweep may have ",
                        SweepPlan::max_runs, " at most: leave out values, or split the file");
    return size;
  }

  SweepRun run_at(const std::vector<std::size_t>& index) const {
    SweepRun run;
    for (const FileSetting& s : settings_) put(run.settings, s);
    for (std::size_t a = 0; a < axes_.size(); ++a) {
      const SweepValue& value = axes_[a][index[a]];
      run.labels.push_back(value.label);
      run.name += (a == 0 ? "" : ",") + folder_text(plan_.axes[a]) + "=" + folder_text(value.label);
      for (const FileSetting& s : value.settings) put(run.settings, s);
    }
    return run;
  }

  void multiply() {
    check_excluded();
    plan_.grid_size = grid_size();
    const std::size_t most = plan_.too_large() ? SweepPlan::previewed_runs : SweepPlan::max_runs;
    std::vector<std::size_t> index(axes_.size(), 0);
    std::set<std::string> names;
    for (bool more = true; more && plan_.runs.size() < most;) {
      SweepRun run = run_at(index);
      if (!left_out(run)) {
        require<UsageError>(names.insert(run.name).second, plan_.path, ": two runs would have the folder ", run.name,
                            ": give their labels different letters");
        plan_.runs.push_back(std::move(run));
      }
      std::size_t a = axes_.size();
      while (a > 0 && ++index[a - 1] == axes_[a - 1].size()) index[--a] = 0;
      more = a > 0;
    }
    require<UsageError>(!plan_.runs.empty(), plan_.path, ": except leaves no run");
  }

  SweepPlan plan_;
  std::vector<FileSetting> settings_;
  std::vector<std::vector<SweepValue>> axes_;
  std::vector<std::vector<std::pair<std::string, std::vector<std::string>>>> excluded_;
  std::vector<int> excluded_at_;
};

}  // namespace detail

KDLIB_TOOLS_FUNC std::string SweepPlan::folder(const SweepRun& run) const {
  return join_path(join_path(out, "runs"), run.name);
}

KDLIB_TOOLS_FUNC std::size_t SweepPlan::seed_axis() const {
  return static_cast<std::size_t>(std::find(axes.begin(), axes.end(), "seed") - axes.begin());
}

KDLIB_TOOLS_FUNC SweepPlan read_sweep(const std::string& path) { return detail::SweepReader(path).read(); }

KDLIB_TOOLS_FUNC std::vector<std::string> sweep_arguments(const SweepPlan& plan, const SweepRun& run) {
  std::vector<std::string> out;
  for (const FileSetting& s : run.settings) {
    if (s.values.size() == 1) {
      out.push_back("--" + s.key + "=" + s.values[0]);  // one word: a switch takes no word of its own
    } else {
      out.push_back("--" + s.key);
      out.insert(out.end(), s.values.begin(), s.values.end());
    }
  }
  out.push_back("--out=" + plan.folder(run));
  return out;
}

KDLIB_NAMESPACE_END

#endif
