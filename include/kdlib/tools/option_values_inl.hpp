// SPDX-License-Identifier: Apache-2.0
// Values of options: read from text, checked against their rules, written as canonical text.
#ifndef KDLIB_TOOLS_OPTION_VALUES_INL_HPP
#define KDLIB_TOOLS_OPTION_VALUES_INL_HPP

#include <algorithm>

#include "kdlib/core/fields.hpp"
#include "kdlib/io/utf8.hpp"
#include "kdlib/tools/options.hpp"
#include "kdlib/tools/read_number.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

KDLIB_TOOLS_FUNC bool read_switch(const std::string& text, bool& value) {
  if (text == "on" || text == "true" || text == "yes" || text == "1") return value = true, true;
  if (text == "off" || text == "false" || text == "no" || text == "0") return value = false, true;
  return false;
}

/// A double-quoted YAML (and JSON) string.
KDLIB_TOOLS_FUNC std::string quoted_value(std::string_view text) {
  static constexpr char hex[] = "0123456789abcdef";
  std::string out = "\"";
  for (const char c : text) {
    const auto u = static_cast<unsigned char>(c);
    if (c == '"' || c == '\\') (out += '\\') += c;
    else if (c == '\n') out += "\\n";
    else if (c == '\t') out += "\\t";
    else if (u < 0x20 || u == 0x7F) ((out += "\\u00") += hex[u >> 4]) += hex[u & 15u];
    else out += c;
  }
  return out + "\"";
}

/// The values of a list as one text from which they can be told apart.
KDLIB_TOOLS_FUNC std::string list_text(const std::vector<std::string>& values) {
  std::string out;
  for (const std::string& value : values) {
    if (!out.empty()) out += ' ';
    out += value.empty() || value.find_first_of(" \"\\\n\t") != std::string::npos ? quoted_value(value) : value;
  }
  return out;
}

KDLIB_TOOLS_FUNC std::string joined(const std::vector<std::string>& parts, const char* separator) {
  std::string out;
  for (const std::string& part : parts) {
    if (!out.empty()) out += separator;
    out += part;
  }
  return out;
}

KDLIB_TOOLS_FUNC std::string option_text(const OptionItem& item) {
  switch (item.kind) {
    case OptionKind::text:
      return *static_cast<const std::string*>(item.target);
    case OptionKind::boolean:
      return *static_cast<const bool*>(item.target) ? "on" : "off";
    case OptionKind::optional_boolean: {
      const auto& value = *static_cast<const std::optional<bool>*>(item.target);
      return !value ? "auto" : *value ? "on" : "off";
    }
    case OptionKind::int32:
      return setting_text(*static_cast<const int*>(item.target));
    case OptionKind::int64:
      return setting_text(*static_cast<const std::int64_t*>(item.target));
    case OptionKind::uint64:
      return setting_text(*static_cast<const std::uint64_t*>(item.target));
    case OptionKind::real32:
      return shortest_number_text(*static_cast<const float*>(item.target));
    case OptionKind::real64:
      return shortest_number_text(*static_cast<const double*>(item.target));
    case OptionKind::list:
      return list_text(*static_cast<const std::vector<std::string>*>(item.target));
  }
  return {};
}

/// The number of an option, for its rules.
KDLIB_TOOLS_FUNC std::optional<double> option_number(const OptionItem& item) {
  switch (item.kind) {
    case OptionKind::int32:
      return *static_cast<const int*>(item.target);
    case OptionKind::int64:
      return static_cast<double>(*static_cast<const std::int64_t*>(item.target));
    case OptionKind::uint64:
      return static_cast<double>(*static_cast<const std::uint64_t*>(item.target));
    case OptionKind::real32:
      return static_cast<double>(*static_cast<const float*>(item.target));
    case OptionKind::real64:
      return *static_cast<const double*>(item.target);
    default:
      return std::nullopt;
  }
}

/// "from 1 to 65535", "above 0 and at most 1", ">= 1".
KDLIB_TOOLS_FUNC std::string option_range(const OptionItem& item) {
  const auto text = [](const std::optional<double>& bound) { return shortest_number_text(*bound); };
  if (item.least && item.most) return "from " + text(item.least) + " to " + text(item.most);
  if (item.above && item.most) return "above " + text(item.above) + " and at most " + text(item.most);
  if (item.least) return ">= " + text(item.least);
  if (item.above) return "> " + text(item.above);
  return item.most ? "<= " + text(item.most) : std::string();
}

KDLIB_TOOLS_FUNC void check_option(const OptionItem& item, const std::string& where) {
  if (item.kind == OptionKind::text) {
    const std::string& text = *static_cast<const std::string*>(item.target);
    const bool known = std::find(item.choices.begin(), item.choices.end(), text) != item.choices.end();
    require<UsageError>(known || item.choices.empty() || text == item.default_text, where, "--", item.name, " is '",
                        text, "'; it must be one of ", joined(item.choices, ", "));
    return;
  }
  const std::optional<double> value = option_number(item);
  if (!value) return;
  const bool good = (!item.least || *value >= *item.least) && (!item.most || *value <= *item.most) &&
                    (!item.above || *value > *item.above);
  require<UsageError>(good, where, "--", item.name, " is ", option_text(item), "; it must be ", option_range(item));
}

template <class N>
void read_option_number(OptionItem& item, const std::string& value, const std::string& where, const char* needed) {
  require<UsageError>(read_number(value, *static_cast<N*>(item.target)), where, "--", item.name, " is '", value,
                      "'; it must be ", needed);
}

KDLIB_TOOLS_FUNC void read_option_switch(OptionItem& item, const std::string& value, const std::string& where) {
  const bool optional = item.kind == OptionKind::optional_boolean;
  if (optional && value == "auto") return static_cast<std::optional<bool>*>(item.target)->reset();
  bool on = false;
  require<UsageError>(read_switch(value, on), where, "--", item.name, " is '", value, "'; it must be ",
                      optional ? "on, off or auto" : "on or off");
  if (optional) *static_cast<std::optional<bool>*>(item.target) = on;
  else *static_cast<bool*>(item.target) = on;
}

/// The names in values that hold one or, separated by commas, several.
KDLIB_TOOLS_FUNC std::vector<std::string> separated_names(const std::vector<std::string>& values) {
  std::vector<std::string> names;
  for (const std::string& value : values)
    for (std::size_t begin = 0; begin <= value.size();) {
      const std::size_t end = std::min(value.find(',', begin), value.size());
      names.push_back(value.substr(begin, end - begin));
      begin = end + 1;
    }
  return names;
}

/// Reads the values into the option's target and checks them.
KDLIB_TOOLS_FUNC void assign_option(OptionItem& item, const std::vector<std::string>& values,
                                    const std::string& where) {
  for (const std::string& value : values)
    require<UsageError>(find_invalid_utf8(value) == std::string_view::npos, where, "--", item.name,
                        " is not UTF-8 text, so that no file of the run could hold it; use another name");
  if (item.kind == OptionKind::list) {
    auto& list = *static_cast<std::vector<std::string>*>(item.target);
    list = item.names ? separated_names(values) : values;
    for (const std::string& name : list)
      require<UsageError>(!item.names || !name.empty(), where, "--", item.name, " is '", joined(values, " "),
                          "'; it holds an empty name");
    return;
  }
  require<UsageError>(values.size() == 1, where, "--", item.name, " takes one value, got ", values.size());
  const std::string& value = values[0];
  switch (item.kind) {
    case OptionKind::boolean:
    case OptionKind::optional_boolean:
      read_option_switch(item, value, where);
      break;
    case OptionKind::int32:
      read_option_number<int>(item, value, where, "a whole number");
      break;
    case OptionKind::int64:
      read_option_number<std::int64_t>(item, value, where, "a whole number");
      break;
    case OptionKind::uint64:
      read_option_number<std::uint64_t>(item, value, where, "a whole number >= 0");
      break;
    case OptionKind::real32:
      read_option_number<float>(item, value, where, "a number");
      break;
    case OptionKind::real64:
      read_option_number<double>(item, value, where, "a number");
      break;
    default:
      *static_cast<std::string*>(item.target) = value;
  }
  check_option(item, where);
}

/// The canonical text that the option would have with these values; its target is not touched.
KDLIB_TOOLS_FUNC std::string canonical_option_text(OptionItem item, const std::vector<std::string>& values,
                                                   const std::string& where) {
  std::string text;
  std::vector<std::string> list;
  std::optional<bool> choice;
  bool on = false;
  double real64 = 0;
  float real32 = 0;
  std::int64_t int64 = 0;
  std::uint64_t uint64 = 0;
  int int32 = 0;
  void* const of_kind[] = {&text, &on, &choice, &int32, &int64, &uint64, &real32, &real64, &list};
  item.target = of_kind[static_cast<std::size_t>(item.kind)];
  assign_option(item, values, where);
  return option_text(item);
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
