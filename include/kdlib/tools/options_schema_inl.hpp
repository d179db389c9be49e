// SPDX-License-Identifier: Apache-2.0
// Bodies of tools/options.hpp: the table as JSON Schema.
#ifndef KDLIB_TOOLS_OPTIONS_SCHEMA_INL_HPP
#define KDLIB_TOOLS_OPTIONS_SCHEMA_INL_HPP

#include "kdlib/io/json_writer.hpp"
#include "kdlib/tools/option_values_inl.hpp"
#include "kdlib/tools/options.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// "integer", "number" or "string": the type of one value.
KDLIB_TOOLS_FUNC const char* schema_type(OptionKind kind) {
  switch (kind) {
    case OptionKind::int32:
    case OptionKind::int64:
    case OptionKind::uint64:
      return "integer";
    case OptionKind::real32:
    case OptionKind::real64:
      return "number";
    default:
      return "string";
  }
}

/// Default and bounds of a number, in its shortest text.
KDLIB_TOOLS_FUNC void schema_number(JsonWriter& json, const OptionItem& item) {
  json.key("default").raw(option_text(item));
  const auto bound = [&json](const char* key, const std::optional<double>& value) {
    if (value) json.key(key).raw(shortest_number_text(*value));
  };
  bound("minimum", item.kind == OptionKind::uint64 && !item.least ? std::optional<double>(0) : item.least);
  bound("maximum", item.most);
  bound("exclusiveMinimum", item.above);
}

/// Switches are on and off in config files, and JSON has true and false.
KDLIB_TOOLS_FUNC void schema_switch(JsonWriter& json, const OptionItem& item) {
  json.key("enum").begin_array().value(true).value(false);
  for (const char* word : {"on", "off", "yes", "no"}) json.value(word);
  if (item.kind == OptionKind::optional_boolean) json.value("auto");
  json.end_array();
  const std::string text = option_text(item);
  if (text == "auto") json.member("default", text);
  else json.member("default", text == "on");
}

/// A list, or its only value.
KDLIB_TOOLS_FUNC void schema_list(JsonWriter& json, const OptionItem& item) {
  const auto types = [&json](std::initializer_list<const char*> names) {
    json.key("type").begin_array();
    for (const char* name : names) json.value(name);
    json.end_array();
  };
  types({"array", "string", "number"});
  json.key("items").begin_object();
  types({"string", "number"});
  json.end_object().key("default").begin_array();
  for (const std::string& value : *static_cast<const std::vector<std::string>*>(item.target)) json.value(value);
  json.end_array();
}

KDLIB_TOOLS_FUNC void schema_option(JsonWriter& json, const OptionItem& item) {
  json.key(item.name).begin_object();
  if (item.kind == OptionKind::boolean || item.kind == OptionKind::optional_boolean) {
    schema_switch(json, item);
  } else if (item.kind == OptionKind::list) {
    schema_list(json, item);
  } else {
    json.member("type", schema_type(item.kind));
    if (item.kind != OptionKind::text) {
      schema_number(json, item);
    } else {
      std::vector<std::string> words = item.choices;
      if (std::find(words.begin(), words.end(), item.default_text) == words.end()) words.push_back(item.default_text);
      if (!item.choices.empty()) json.member("enum", words);
      json.member("default", option_text(item));
    }
  }
  json.member("description", item.help).member("x-group", item.group);
  if (!item.unit.empty()) json.member("x-unit", item.unit);
  json.end_object();
}

}  // namespace detail

KDLIB_TOOLS_FUNC std::string Options::json_schema() const {
  JsonWriter json(JsonStyle{2, NonFinite::refuse});
  json.begin_object()
      .member("$schema", "https://json-schema.org/draft/2020-12/schema")
      .member("title", program_)
      .member("description", purpose_)
      .member("type", "object");
  json.key("properties").begin_object();
  for (const Item& item : items_) detail::schema_option(json, item);
  json.end_object().member("additionalProperties", false);
  std::vector<std::string> needed;
  for (const Item& item : items_)
    if (item.required) needed.push_back(item.name);
  json.member("required", needed);
  if (schema_also_) schema_also_(json);
  return json.end_object().text();
}

KDLIB_NAMESPACE_END

#endif
