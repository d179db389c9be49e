// SPDX-License-Identifier: Apache-2.0
// Bodies of flag_table.hpp.
#ifndef KDLIB_TOOLS_SERVICE_FLAG_TABLE_INL_HPP
#define KDLIB_TOOLS_SERVICE_FLAG_TABLE_INL_HPP

#include <algorithm>
#include <charconv>
#include <cmath>

#include "kdlib/core/fields.hpp"
#include "kdlib/io/utf8.hpp"
#include "kdlib/tools/service/flag_table.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {
/// What the service decides itself.
KDLIB_TOOLS_FUNC bool is_own_flag(std::string_view name) {
  for (const char* own :
       {"out", "config", "resume", "dry-run", "json", "device", "teacher-cache", "preset", "status-file"})
    if (name == own) return true;
  return false;
}

KDLIB_TOOLS_FUNC std::string flag_bounds(const FlagRule& r) {
  std::string out;
  if (r.least) out += " at least " + shortest_number_text(*r.least);
  if (r.above) out += " above " + shortest_number_text(*r.above);
  if (r.most) out += (out.empty() ? " at most " : " and at most ") + shortest_number_text(*r.most);
  return out;
}

KDLIB_TOOLS_FUNC std::string flag_number_problem(const FlagRule& r, const Json& value) {
  if (!value.is_number()) return "must be a number";
  const double x = value.as_double();
  if (r.type == "integer" && std::floor(x) != x) return "must be a whole number";
  const bool good = (!r.least || x >= *r.least) && (!r.most || x <= *r.most) && (!r.above || x > *r.above) &&
                    (r.type != "integer" || std::fabs(x) <= 2147483647.0);
  return good ? "" : concat("is ", shortest_number_text(x), "; it must be", flag_bounds(r));
}

KDLIB_TOOLS_FUNC std::string choice_problem(const std::vector<std::string>& choices, std::string_view text) {
  if (choices.empty() || std::find(choices.begin(), choices.end(), text) != choices.end()) return {};
  std::string all;
  for (const std::string& c : choices) all += (all.empty() ? "" : ", ") + c;
  return concat("is '", printable(text), "'; allowed are ", all);
}

KDLIB_TOOLS_FUNC std::string flag_text_problem(const FlagRule& r, std::string_view text) {
  if (text.find('\0') != std::string_view::npos) return "holds a zero byte";
  if (text.size() > 4096) return "is longer than 4096 bytes";
  return choice_problem(r.choices, text);
}

KDLIB_TOOLS_FUNC std::string flag_problem(const FlagRule& r, const Json& value) {
  if (r.type == "integer" || r.type == "number") return flag_number_problem(r, value);
  if (r.type == "switch") return value.is_bool() ? "" : "must be true or false";
  if (r.type == "choice") {
    const bool word =
        value.is_string() && (value.as_string() == "on" || value.as_string() == "off" || value.as_string() == "auto");
    return word ? "" : "must be 'on', 'off' or 'auto'";
  }
  if (r.type == "text") return value.is_string() ? flag_text_problem(r, value.as_string()) : "must be a text";
  if (!value.is_array() || value.size() == 0) return "must be a list of texts, not empty";
  for (const Json& element : value) {
    if (!element.is_string() || element.as_string().empty()) return "must be a list of texts, none of them empty";
    if (std::string p = flag_text_problem(r, element.as_string()); !p.empty()) return p;
  }
  return {};
}
}  // namespace detail

KDLIB_TOOLS_FUNC bool FlagRule::is_path() const {
  return value_name == "MODEL" || value_name == "DIR" || value_name == "FILE";
}

KDLIB_TOOLS_FUNC FlagTable::FlagTable(const Json& schema) {
  for (const Json& option : schema.at("options")) {
    FlagRule rule;
    rule.name = option.at("name").as_string();
    gives_status_ = gives_status_ || rule.name == "status-file";
    if (detail::is_own_flag(rule.name)) continue;
    rule.type = option.at("type").as_string();
    rule.value_name = option.string_or("value", "");
    rule.unit = option.string_or("unit", "");
    rule.help = option.string_or("help", "");
    rule.group = option.string_or("group", "");
    rule.default_text = option.string_or("default", "");
    if (const auto choices = option.find("choices"))
      for (const Json& choice : *choices) rule.choices.emplace_back(choice.as_string());
    const auto bound = [&](const char* key, std::optional<double>& to) {
      if (const auto value = option.find_set(key)) to = value->as_double();
    };
    bound("at_least", rule.least);
    bound("at_most", rule.most);
    bound("above", rule.above);
    flags_.push_back(std::move(rule));
  }
}

KDLIB_TOOLS_FUNC const FlagRule* FlagTable::find(std::string_view name) const {
  for (const FlagRule& rule : flags_)
    if (rule.name == name) return &rule;
  return nullptr;
}

KDLIB_TOOLS_FUNC void FlagTable::check(const Json& settings, const std::string& field,
                                       std::vector<FieldProblem>& problems) const {
  for (const auto& [key, value] : settings.members()) {
    const std::string where = field + "." + std::string(key);
    const FlagRule* rule = find(key);
    if (rule == nullptr)
      problems.push_back({where, detail::is_own_flag(key)
                                     ? "is set by the service itself"
                                     : "is no setting of distil; GET /api/v1/settings lists them"});
    else if (std::string p = detail::flag_problem(*rule, value); !p.empty()) problems.push_back({where, std::move(p)});
  }
}

KDLIB_TOOLS_FUNC std::vector<std::string> FlagTable::words(const FlagRule& rule, const Json& value) {
  if (value.is_bool()) return {value.as_bool() ? "on" : "off"};
  if (value.is_string()) return {std::string(value.as_string())};
  if (rule.type == "integer") return {std::to_string(static_cast<std::int64_t>(value.as_double()))};
  if (value.is_number()) return {detail::shortest_number_text(value.as_double())};
  std::vector<std::string> out;
  for (const Json& element : value) out.emplace_back(element.as_string());
  return out;
}

KDLIB_TOOLS_FUNC void FlagTable::write_schema(JsonWriter& json) const {
  json.begin_object().member("type", "object").member("additionalProperties", false);
  json.member("description", "settings of distil by their flags' names").key("properties").begin_object();
  for (const FlagRule& r : flags_) {
    json.key(r.name).begin_object().member("description", r.help);
    if (r.type == "list") {
      json.member("type", "array").member("minItems", 1).key("items").begin_object().member("type", "string");
      json.member("minLength", 1).member("maxLength", 1024).member("pattern", "^[^\\x00]+$").end_object();
    } else if (r.type == "choice") {
      json.member("type", "string").key("enum").begin_array().value("on").value("off").value("auto").end_array();
    } else if (r.type == "integer" || r.type == "number") {
      json.member("type", r.type);
      if (r.least) json.member("minimum", *r.least);
      else if (r.above) json.member("minimum", *r.above).member("exclusiveMinimum", true);
      else if (r.type == "integer") json.member("minimum", -2147483647);
      if (r.most) json.member("maximum", *r.most);
      else if (r.type == "integer") json.member("maximum", 2147483647);
    } else if (r.type == "switch") {
      json.member("type", "boolean");
    } else {
      json.member("type", "string").member("maxLength", 1024).member("pattern", "^[^\\x00]*$");
      if (!r.choices.empty()) json.key("enum").value(r.choices);
    }
    json.end_object();
  }
  json.end_object().end_object();
}

KDLIB_TOOLS_FUNC std::string FlagTable::json() const {
  JsonWriter json;
  json.begin_array();
  for (const FlagRule& r : flags_) {
    json.begin_object().member("name", r.name).member("type", r.type).member("value", r.value_name);
    json.member("unit", r.unit).member("help", r.help).member("group", r.group).member("default", r.default_text);
    json.member("path", r.is_path());
    if (!r.choices.empty()) json.key("choices").value(r.choices);
    if (r.least) json.member("at_least", *r.least);
    if (r.most) json.member("at_most", *r.most);
    if (r.above) json.member("above", *r.above);
    json.end_object();
  }
  return json.end_array().text();
}

KDLIB_NAMESPACE_END

#endif
