// SPDX-License-Identifier: Apache-2.0
// The options of distil, read from `distil --schema`. The settings of a request are checked against these options.
#ifndef KDLIB_TOOLS_SERVICE_FLAG_TABLE_HPP
#define KDLIB_TOOLS_SERVICE_FLAG_TABLE_HPP

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "kdlib/io/json.hpp"
#include "kdlib/io/json_writer.hpp"
#include "kdlib/tools/service/message.hpp"

KDLIB_NAMESPACE_BEGIN

/// One option of distil.
struct FlagRule {
  std::string name, type, value_name, unit, help, group, default_text;  // type: text, switch, choice, integer, ...
  std::vector<std::string> choices;
  std::optional<double> least, most, above;

  /// True if the value names a file or folder that is read. Such a path must be inside an allowed root.
  bool is_path() const;
};

namespace detail {
/// Returns "is 'x'; allowed are a, b", or an empty text if `text` is one of the choices or if there are no choices.
std::string choice_problem(const std::vector<std::string>& choices, std::string_view text);
}  // namespace detail

/// All options that a request may set.
class FlagTable {
 public:
  FlagTable() = default;
  /// Reads the answer of `distil --schema`. FormatError names what is missing.
  explicit FlagTable(const Json& schema);

  const FlagRule* find(std::string_view name) const;
  const std::vector<FlagRule>& flags() const { return flags_; }
  /// Adds a problem for every unknown flag and every value that distil would refuse.
  void check(const Json& settings, const std::string& field, std::vector<FieldProblem>& problems) const;
  /// Returns the values of one flag as words of a command line.
  static std::vector<std::string> words(const FlagRule& rule, const Json& value);
  void write_schema(JsonWriter& json) const;
  /// Returns JSON for the page: flags with type, default, bounds, choices, unit, group and help.
  std::string json() const;
  /// True if this distil has the option --status-file, which only the service sets.
  bool gives_status() const { return gives_status_; }

 private:
  std::vector<FlagRule> flags_;
  bool gives_status_ = false;
};

KDLIB_NAMESPACE_END

#if KDLIB_TOOLS_HEADER_ONLY
#include "kdlib/tools/service/flag_table_inl.hpp"
#endif

#endif
