// SPDX-License-Identifier: Apache-2.0
// The command-line options of a program as a table. Each line of the table binds a name to a variable, whose value is
// the default. A preset overrides the default, a config file overrides the preset, and the command line overrides the
// config file.
#ifndef KDLIB_TOOLS_OPTIONS_HPP
#define KDLIB_TOOLS_OPTIONS_HPP

#include <cstdint>
#include <functional>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kdlib/tools/report.hpp"

KDLIB_NAMESPACE_BEGIN

class JsonWriter;

/// A key of a config file with its value (a scalar) or its values (a list).
struct FileSetting {
  std::string key;
  std::vector<std::string> values;
};

/// Calls read(), which reads a config file. If the file cannot be read, its IoError becomes a UsageError that begins
/// with the name of the option.
template <class F>
decltype(auto) reading_config_file(const char* option, F&& read) {
  try {
    return read();
  } catch (const IoError& error) {
    throw UsageError(concat(option, ": ", error.what()));
  }
}

/// An option whose value in a config file differs from its present value. Both values are canonical texts.
struct SettingDifference {
  std::string name, in_file, now;
};

/// The type of an option's variable.
enum class OptionKind : std::uint8_t { text, boolean, optional_boolean, int32, int64, uint64, real32, real64, list };

/// One option. Its target holds the present value.
struct OptionItem {
  std::string name, value_name, help, unit, group, default_text;
  OptionKind kind = OptionKind::text;
  void* target = nullptr;            // a variable of this kind: std::string, bool, std::optional<bool>, int, ...
  std::vector<std::string> choices;  // allowed values of a text; empty: any text
  std::optional<double> least, most, above;
  bool required = false, positional = false;
  bool names = false;  // for a list: commas separate values, too
  bool set = false;    // the config file or the command line contains the option
  bool given = false;  // the command line contains the option, or the config file contains it with a value that changes
                       // the option
};

/// A line of a program's table that says under which condition options have an effect.
struct OptionNeeds {
  std::vector<const char*> names;
  bool met = false;       // true if the other options fulfil the condition
  std::string otherwise;  // why the options would have no effect: "it belongs to --cache"
};

/// Example:
///
///     int steps = 30;  std::string loss = "forward_kl";  bool dry_run = false;
///     kd::Options options{"distil", "Distils a student from a teacher."};
///     options.group("Training")
///         .add("steps", steps, "N", "optimiser steps").at_least(1)
///         .add("loss", loss, "NAME", "divergence of each token").choices({"forward_kl", "reverse_kl", "jsd"})
///         .add("dry-run", dry_run, "print the plan and stop");
///     options.parse(argc, argv);   // throws UsageError (exit status 2) or HelpRequested (0): see report()
///
/// A user writes `--steps 5` or `--steps=5`. A bool is a switch (`--dry-run`, `--dry-run=off`), an optional<bool> takes
/// on, off or auto, and a list takes all values up to the next `--name` and may be repeated. Targets must outlive the
/// Options. Numbers must be finite and texts must be UTF-8, because everything that a run writes (config.yaml,
/// checkpoints) must be readable again.
class Options {
 public:
  Options(std::string program, std::string purpose);

  /// Starts a group with a title in the text of --help.
  Options& group(std::string title);

  Options& add(const char* name, std::string& target, const char* value_name, const char* help, const char* unit = "");
  Options& add(const char* name, int& target, const char* value_name, const char* help, const char* unit = "");
  Options& add(const char* name, std::int64_t& target, const char* value_name, const char* help, const char* unit = "");
  Options& add(const char* name, std::uint64_t& target, const char* value_name, const char* help,
               const char* unit = "");
  Options& add(const char* name, float& target, const char* value_name, const char* help, const char* unit = "");
  Options& add(const char* name, double& target, const char* value_name, const char* help, const char* unit = "");
  Options& add(const char* name, std::optional<bool>& target, const char* help);
  Options& add(const char* name, std::vector<std::string>& target, const char* value_name, const char* help);
  Options& add(const char* name, bool& target, const char* help);

  /// Adds a required argument that is given without an option name, in the order of declaration: `inspect MODEL`.
  Options& positional(const char* name, std::string& target, const char* help);

  // The following functions set rules for the option that was added last.
  Options& required();
  Options& at_least(double bound);
  Options& at_most(double bound);
  Options& above(double bound);
  Options& choices(std::initializer_list<const char*> allowed);
  /// Says that the values of a list are names, so that `--tasks a,b` means `--tasks a b`.
  Options& names();

  /// Adds `--threads N` (0: all CPUs that the process may use) and `--seed N`, which every program has.
  Options& common(int& threads, std::uint64_t& seed);

  /// Adds `--config FILE`. The keys of the file are option names; `read` is usually kd::read_yaml_settings of
  /// tools/yaml_settings.hpp.
  Options& config_file(std::vector<FileSetting> (*read)(const std::string& path));

  /// Adds `--preset NAME`. `apply(context, name)` sets the targets; it is called before the values of the config file
  /// and the command line are set.
  Options& presets(std::string& target, std::initializer_list<const char*> names,
                   void (*apply)(void* context, const std::string& name), void* context);

  void parse(int argc, const char* const* argv);

  /// Throws UsageError, naming the option and the reason, if the user asked for an option of a table line whose
  /// condition is not met. A switch that is off or auto asks for nothing.
  void check_needs(const std::vector<OptionNeeds>& table) const;

  /// True if the user asked for the option: the command line contains it, or the config file contains it with a value
  /// other than the default or preset. A config file with every option, as yaml() writes it, asks only for those that
  /// differ.
  bool given(std::string_view name) const;

  /// Returns every option with its present value as canonical text, in the order of the table. Numbers have their
  /// shortest exact form, switches are on or off, and the values of a list have spaces between them (a value is quoted
  /// if it is empty or holds a space or a quote).
  std::vector<std::pair<std::string, std::string>> settings() const;

  /// Returns the options whose value in a config file differs from the present value. Texts with the same meaning are
  /// equal (1e-3 and 0.001, on and true). Keys that are not options are ignored. UsageError: a value cannot be read.
  std::vector<SettingDifference> differences(const std::vector<FileSetting>& file) const;

  /// Returns all settings as YAML that `--config` can read back.
  std::string yaml() const;

  /// Returns the table, in the order of declaration.
  const std::vector<OptionItem>& items() const { return items_; }

  std::string help() const;

  /// Returns the table as JSON for other programs (`--schema`): {"program","purpose","options":[{"name","type","value",
  /// "unit","help","group","default","choices"?,"at_least"?,"at_most"?,"above"?,"required","positional"}]}. Members
  /// with a question mark may be missing. Types are text, switch, choice (on, off, auto), integer, number and list.
  /// Defaults are canonical texts as in settings().
  std::string schema() const;
  /// Returns the text of `--json-schema`: the table as JSON Schema (draft 2020-12) of a config file, with types,
  /// defaults, bounds and choices, and in addition `x-unit` and `x-group`.
  std::string json_schema() const;
  /// Adds members to the object of json_schema(), for definitions that a program's options mention.
  Options& schema_also(std::function<void(JsonWriter&)> members) { return schema_also_ = std::move(members), *this; }

 private:
  using Kind = OptionKind;
  using Item = OptionItem;

  Options& push(const char* name, Kind kind, void* target, const char* value_name, const char* help, const char* unit);
  Item& last();
  const Item* find(std::string_view name) const;
  Item& find_or_refuse(std::string_view name, const std::string& where);
  std::vector<FileSetting> read_command_line(int argc, const char* const* argv);
  FileSetting read_option(int argc, const char* const* argv, int& i);
  void apply_preset(const std::vector<FileSetting>& flags, const std::vector<FileSetting>& file,
                    const std::string& where);
  void apply(const std::vector<FileSetting>& settings, const std::string& where);
  std::string usage() const;

  std::string program_, purpose_, group_ = "Options", config_;
  std::vector<Item> items_;
  std::vector<FileSetting> (*read_config_)(const std::string&) = nullptr;
  void (*apply_preset_)(void*, const std::string&) = nullptr;
  void* preset_context_ = nullptr;
  std::string* preset_ = nullptr;
  std::function<void(JsonWriter&)> schema_also_;
};

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/options_inl.hpp"
#include "kdlib/tools/options_schema_inl.hpp"
#endif

#endif
