// SPDX-License-Identifier: Apache-2.0
// Bodies of fields.hpp.
#ifndef KDLIB_TOOLS_SERVICE_FIELDS_INL_HPP
#define KDLIB_TOOLS_SERVICE_FIELDS_INL_HPP

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "kdlib/core/fields.hpp"
#include "kdlib/core/utf8.hpp"
#include "kdlib/tools/service/fields.hpp"
#include "kdlib/tools/service/flag_table.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_TOOLS_FUNC bool is_plain_name(std::string_view text) {
  const auto plain = [](char c) { return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z'); };
  if (text.empty() || text.size() > 80 || !plain(text[0])) return false;
  return std::all_of(text.begin(), text.end(), [&](char c) { return plain(c) || c == '_' || c == '-' || c == '.'; });
}

namespace detail {

KDLIB_TOOLS_FUNC std::string range_text(const ApiField& f) {
  const auto text = [](double bound) { return shortest_number_text(bound); };
  if (f.least && f.most) return "from " + text(*f.least) + " to " + text(*f.most);
  return f.least ? "at least " + text(*f.least) : f.most ? "at most " + text(*f.most) : "";
}

KDLIB_TOOLS_FUNC std::string text_problem(const ApiField& f, std::string_view text) {
  if (f.type == FieldType::name && !is_plain_name(text))
    return "must be 1 to 80 letters, digits, '_', '-' or '.', a letter or digit first";
  if (utf8_count(text) > f.longest)
    return concat("has ", utf8_count(text), " characters; at most ", f.longest, " are allowed");
  if (text.find('\0') != std::string_view::npos) return "holds a zero byte";
  if (f.type == FieldType::path) {
    if (text.empty()) return "must not be empty";
    for (const char c : text)
      if (static_cast<unsigned char>(c) < 0x20) return "holds a control character";
  }
  return choice_problem(f.choices, text);
}

KDLIB_TOOLS_FUNC std::string number_problem(const ApiField& f, double value) {
  const bool good = std::isfinite(value) && (!f.least || value >= *f.least) && (!f.most || value <= *f.most);
  return good ? std::string() : concat("is ", shortest_number_text(value), "; it must be ", range_text(f));
}

/// Lists of objects with text members only: messages (role, content), models (name, model_path, adapter_path).
KDLIB_TOOLS_FUNC std::string objects_problem(const ApiField& f, const Json& value) {
  static const std::vector<ApiField> message = {
      {"role", FieldType::text, "who speaks", true, {}, {}, {"system", "user", "assistant"}},
      {"content", FieldType::text, "what is said", true, {}, {}, {}, 65536}};
  static const std::vector<ApiField> model = {{"name", FieldType::name, "column of the answer", true},
                                              {"model_path", FieldType::path, "the model", true},
                                              {"adapter_path", FieldType::path, "an adapter for it"}};
  const std::vector<ApiField>& fields = f.type == FieldType::messages ? message : model;
  if (!value.is_array()) return "must be a list of objects";
  const double size = static_cast<double>(value.size());
  if ((f.least && size < *f.least) || (f.most && size > *f.most))
    return concat("has ", value.size(), " elements; allowed are ", range_text(f));
  for (const Json& element : value) {
    if (!element.is_object()) return "must be a list of objects";
    for (const auto& [key, member] : element.members()) {
      const auto known =
          std::find_if(fields.begin(), fields.end(), [&, k = key](const ApiField& o) { return o.name == k; });
      if (known == fields.end()) return concat("has an element with the unknown member '", std::string(key), "'");
      if (!member.is_string()) return concat("has an element whose '", known->name, "' is no text");
      if (const std::string p = text_problem(*known, member.as_string()); !p.empty())
        return concat("has an element whose '", known->name, "' ", p);
    }
    for (const ApiField& o : fields)
      if (o.required && !element.contains(o.name)) return concat("has an element without '", o.name, "'");
  }
  return {};
}

KDLIB_TOOLS_FUNC std::string texts_problem(const ApiField& f, const Json& value) {
  if (!value.is_array()) return "must be a list of texts";
  if (f.most && static_cast<double>(value.size()) > *f.most)
    return concat("has ", value.size(), " elements; at most ", shortest_number_text(*f.most), " are allowed");
  for (const Json& element : value) {
    if (!element.is_string()) return "must be a list of texts";
    if (utf8_count(element.as_string()) > 200) return "has an element of more than 200 characters";
    if (element.as_string().find('\0') != std::string_view::npos) return "has an element with a zero byte";
  }
  return {};
}

KDLIB_TOOLS_FUNC std::string field_problem(const ApiField& f, const Json& value) {
  switch (f.type) {
    case FieldType::integer: {
      // 3.0 is a whole number, too, for JSON schema.
      const bool whole = value.is_number() && std::floor(value.as_double()) == value.as_double();
      return whole ? number_problem(f, value.as_double()) : "must be a whole number";
    }
    case FieldType::number:
      return value.is_number() ? number_problem(f, value.as_double()) : "must be a number";
    case FieldType::boolean:
      return value.is_bool() ? "" : "must be true or false";
    case FieldType::texts:
      return texts_problem(f, value);
    case FieldType::messages:
    case FieldType::models:
      return objects_problem(f, value);
    case FieldType::settings:
      return value.is_object() ? "" : "must be an object of settings of distil";
    default:
      return value.is_string() ? text_problem(f, value.as_string()) : "must be a text";
  }
}

KDLIB_TOOLS_FUNC const char* json_type(FieldType type) {
  switch (type) {
    case FieldType::integer:
      return "integer";
    case FieldType::number:
      return "number";
    case FieldType::boolean:
      return "boolean";
    case FieldType::texts:
    case FieldType::messages:
    case FieldType::models:
      return "array";
    case FieldType::settings:
      return "object";
    default:
      return "string";
  }
}

KDLIB_TOOLS_FUNC void write_text_object(JsonWriter& json, bool message) {
  json.begin_object().member("type", "object").member("additionalProperties", false).key("required").begin_array();
  if (message) json.value("role").value("content");
  else json.value("name").value("model_path");
  json.end_array().key("properties").begin_object();
  const auto text = [&](const char* name, int longest) {
    json.key(name).begin_object().member("type", "string").member("maxLength", longest);
  };
  if (message) {
    text("role", 9);
    json.key("enum").begin_array().value("system").value("user").value("assistant").end_array().end_object();
    text("content", 65536);
    json.member("pattern", "^[^\\x00]*$").end_object();
  } else {
    text("name", 80);
    json.member("pattern", "^[A-Za-z0-9][A-Za-z0-9_.-]{0,79}$").end_object();
    for (const char* name : {"model_path", "adapter_path"}) {
      text(name, 4096);
      json.member("minLength", 1).member("pattern", "^[^\\x00-\\x1f]+$").end_object();
    }
  }
  json.end_object().end_object();
}

}  // namespace detail

KDLIB_TOOLS_FUNC void check_body(const Json& body, const std::vector<ApiField>& fields, const FlagTable& flags) {
  std::vector<FieldProblem> problems;
  if (!body.is_object()) throw ServiceProblem(422, "the body must be a JSON object");
  for (const auto& [key, value] : body.members()) {
    const auto known =
        std::find_if(fields.begin(), fields.end(), [&, k = key](const ApiField& f) { return f.name == k; });
    if (known == fields.end()) {
      std::string all;
      for (const ApiField& f : fields) all += (all.empty() ? "" : ", ") + f.name;
      problems.push_back({std::string(key), "is no field of this request; its fields are: " + all});
    } else if (std::string p = detail::field_problem(*known, value); !p.empty()) {
      problems.push_back({known->name, std::move(p)});
    } else if (known->type == FieldType::settings) {
      flags.check(value, known->name, problems);
    }
  }
  for (const ApiField& f : fields)
    if (f.required && !body.contains(f.name)) problems.push_back({f.name, "is missing: " + f.help});
  if (problems.empty()) return;
  const std::string detail = problems[0].field + " " + problems[0].message;
  throw ServiceProblem(422, detail, std::move(problems));
}

KDLIB_TOOLS_FUNC void check_query(const std::vector<std::pair<std::string, std::string>>& query,
                                  const std::vector<ApiField>& fields) {
  std::vector<FieldProblem> problems;
  for (const auto& [key, value] : query) {
    const auto known =
        std::find_if(fields.begin(), fields.end(), [&, &k = key](const ApiField& f) { return f.name == k; });
    if (known == fields.end()) {
      problems.push_back({key, "is no parameter of this request"});
      continue;
    }
    std::string p;
    if (known->type == FieldType::integer || known->type == FieldType::number) {
      char* end = nullptr;
      const double number = std::strtod(value.c_str(), &end);
      const bool digits = value.find_first_not_of("+-0123456789.eE") == std::string::npos;
      if (value.empty() || *end != 0 || !digits) p = "is '" + value + "'; it must be a number";
      else if (known->type == FieldType::integer && std::floor(number) != number) p = "must be a whole number";
      else p = detail::number_problem(*known, number);
    } else {
      p = detail::text_problem(*known, value);
    }
    if (!p.empty()) problems.push_back({key, p});
  }
  for (const ApiField& f : fields) {
    const auto given =
        std::count_if(query.begin(), query.end(), [&](const auto& pair) { return pair.first == f.name; });
    if (given > 1) problems.push_back({f.name, "is given twice"});
    if (given == 0 && f.required) problems.push_back({f.name, "is missing: " + f.help});
  }
  if (problems.empty()) return;
  const std::string detail = problems[0].field + " " + problems[0].message;
  throw ServiceProblem(422, detail, std::move(problems));
}

KDLIB_TOOLS_FUNC void write_field_schema(JsonWriter& json, const ApiField& f, const FlagTable& flags) {
  if (f.type == FieldType::settings) return flags.write_schema(json);
  json.begin_object().member("type", detail::json_type(f.type));
  if (!f.help.empty()) json.member("description", f.help);
  const bool list = f.type == FieldType::texts || f.type == FieldType::messages || f.type == FieldType::models;
  const bool number = f.type == FieldType::integer || f.type == FieldType::number;
  if (f.least) json.member(list ? "minItems" : "minimum", static_cast<std::int64_t>(*f.least));
  if (f.most) json.member(list ? "maxItems" : "maximum", static_cast<std::int64_t>(*f.most));
  if (f.type == FieldType::texts)
    json.key("items")
        .begin_object()
        .member("type", "string")
        .member("maxLength", 200)
        .member("pattern", "^[^\\x00]*$")
        .end_object();
  else if (list) json.key("items"), detail::write_text_object(json, f.type == FieldType::messages);
  if (!f.choices.empty()) json.key("enum").value(f.choices);
  else if (f.type == FieldType::name) json.member("pattern", "^[A-Za-z0-9][A-Za-z0-9_.-]{0,79}$");
  else if (f.type == FieldType::path)
    json.member("minLength", 1)
        .member("maxLength", static_cast<std::int64_t>(f.longest))
        .member("pattern", "^[^\\x00-\\x1f]+$");
  else if (!list && !number && f.type == FieldType::text)
    json.member("maxLength", static_cast<std::int64_t>(f.longest)).member("pattern", "^[^\\x00]*$");
  json.end_object();
}

KDLIB_TOOLS_FUNC void write_schema(JsonWriter& json, const std::vector<ApiField>& fields, const FlagTable& flags) {
  json.begin_object().member("type", "object").member("additionalProperties", false).key("properties").begin_object();
  for (const ApiField& f : fields) {
    json.key(f.name);
    write_field_schema(json, f, flags);
  }
  json.end_object();
  const bool some = std::any_of(fields.begin(), fields.end(), [](const ApiField& f) { return f.required; });
  if (some) {
    json.key("required").begin_array();
    for (const ApiField& f : fields)
      if (f.required) json.value(f.name);
    json.end_array();
  }
  json.end_object();
}

KDLIB_NAMESPACE_END

#endif
