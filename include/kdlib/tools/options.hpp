// SPDX-License-Identifier: Apache-2.0
// Command-line options of a program as a table: each line binds a name to a variable whose value is the default.
// The order of precedence is: default, preset, config file, command line.
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

/// One key of a config file with its value (a scalar) or values (a list).
struct FileSetting {
  std::string key;
  std::vector<std::string> values;
};

/// Calls read(), which reads a config file. A file that is not there or cannot be read is a UsageError that begins with
/// the name of its option.
template <class F>
decltype(auto) reading_config_file(const char* option, F&& read) {
  try {
    return read();
  } catch (const IoError& error) {
    throw UsageError(concat(option, ": ", error.what()));
  }
}

/// An option whose value in a config file is not its present one, both as canonical texts.
struct SettingDifference {
  std::string name, in_file, now;
};

/// The type of an option's variable.
enum class OptionKind : std::uint8_t { text, boolean, optional_boolean, int32, int64, uint64, real32, real64, list };

/// One option: its target holds the present value.
struct OptionItem {
  std::string name, value_name, help, unit, group, default_text;
  OptionKind kind = OptionKind::text;
  void* target = nullptr;            // a variable of the kind: std::string, bool, std::optional<bool>, int, ...
  std::vector<std::string> choices;  // of a text; empty: any
  std::optional<double> least, most, above;
  bool required = false, positional = false;
  bool names = false;  // of a list: commas separate values, too
  bool set = false;    // the config file or the command line has it
  bool given = false;  // the command line has it, or the config file with another value than without it
};

/// What options need so that anything reads them: a line of a program's table.
struct OptionNeeds {
  std::vector<const char*> names;
  bool met = false;       // by the other options
  std::string otherwise;  // why nothing would read them: "it belongs to --cache"
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
/// Written `--steps 5` or `--steps=5`; a bool is a switch (`--dry-run`, `--dry-run=off`), an optional<bool> takes on,
/// off or auto, a list takes all values up to the next `--name` and may be repeated. Targets must outlive the Options.
/// Numbers must be finite and texts UTF-8: what a run writes (config.yaml, checkpoints) must be readable again.
class Options {
 public:
  Options(std::string program, std::string purpose);

  /// Starts a titled group in --help.
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

  /// A required argument without a name, by order of declaration: `inspect MODEL`.
  Options& positional(const char* name, std::string& target, const char* help);

  // Rules of the option added last.
  Options& required();
  Options& at_least(double bound);
  Options& at_most(double bound);
  Options& above(double bound);
  Options& choices(std::initializer_list<const char*> allowed);
  /// The values of a list are names: `--tasks a,b` means `--tasks a b`.
  Options& names();

  /// `--threads N` (0: all CPUs of the process) and `--seed N`, which every program has.
  Options& common(int& threads, std::uint64_t& seed);

  /// `--config FILE`: keys are option names; the reader is kd::read_yaml_settings of tools/yaml_settings.hpp.
  Options& config_file(std::vector<FileSetting> (*read)(const std::string& path));

  /// `--preset NAME`: `apply(context, name)` sets the targets; called before the config file and the command line
  /// count.
  Options& presets(std::string& target, std::initializer_list<const char*> names,
                   void (*apply)(void* context, const std::string& name), void* context);

  void parse(int argc, const char* const* argv);

  /// Refuses options that somebody asked for although nothing would read them, by the lines of the table whose need is
  /// not met. A switch that is off, or auto, asks for nothing. UsageError names the option and the reason.
  void check_needs(const std::vector<OptionNeeds>& table) const;

  /// True when somebody asked for it: the command line has it, or the config file has it with another value than the
  /// default or preset. A config file of every option, as yaml() writes it, asks for what differs and for nothing else.
  bool given(std::string_view name) const;

  /// Every option with its present value as canonical text, in table order: numbers in their shortest exact form, on
  /// and off, the values of a list with spaces between them (quoted where one holds a space or a quote, or is empty).
  std::vector<std::pair<std::string, std::string>> settings() const;

  /// Options whose value in a config file is not the present one. Texts that mean the same are equal (1e-3 and 0.001,
  /// on and true); keys that are no options are passed over. UsageError where a value cannot be read.
  std::vector<SettingDifference> differences(const std::vector<FileSetting>& file) const;

  /// All settings as YAML that `--config` reads back.
  std::string yaml() const;

  /// The table, in order of declaration.
  const std::vector<OptionItem>& items() const { return items_; }

  std::string help() const;

  /// The table as JSON, for other programs (`--schema`): {"program","purpose","options":[{"name","type","value","unit",
  /// "help","group","default","choices"?,"at_least"?,"at_most"?,"above"?,"required","positional"}]}. Types are text,
  /// switch, choice (on, off, auto), integer, number and list; defaults are canonical texts as settings() gives them.
  std::string schema() const;
  /// The table as JSON Schema (draft 2020-12) of a config file: types, defaults, bounds, choices; `x-unit` and
  /// `x-group` besides. What `--json-schema` prints.
  std::string json_schema() const;
  /// Adds members to the object of json_schema(): definitions that a program's options speak of.
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
