// SPDX-License-Identifier: Apache-2.0
// Functions and forms of answers as Harmony's messages offer them: JSON schemas as TypeScript types, character by
// character as openai-harmony 0.0.8.
#ifndef KDLIB_TEXT_HARMONY_TOOLS_INL_HPP
#define KDLIB_TEXT_HARMONY_TOOLS_INL_HPP

#include <algorithm>
#include <charconv>

#include "kdlib/text/chat_message.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// A number as Rust's serde_json writes it: shortest digits, an exponent below 1e-5 and from 1e16 on.
KDLIB_FUNC void append_short_float(double value, std::string& out) {
  char buffer[400];
  const double size = std::fabs(value);
  const bool exponent = value != 0 && (size < 1e-5 || size >= 1e16);
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value,
                                 exponent ? std::chars_format::scientific : std::chars_format::fixed)
                       .ptr;
  std::string text(buffer, static_cast<std::size_t>(end - buffer));
  if (const std::size_t e = text.find('e');
      e != std::string::npos) {  // "1e+16", "1e-07": neither plus nor zeros in front
    std::size_t digits = e + 2;
    while (digits + 1 < text.size() && text[digits] == '0') ++digits;
    text.erase(e + 2, digits - e - 2);
    if (text[e + 1] == '+') text.erase(e + 1, 1);
  } else if (text.find('.') == std::string::npos) {
    text += ".0";
  }
  out += text;
}

KDLIB_FUNC void append_compact_json(const Json& value, std::string& out) {
  if (value.kind() == Json::Kind::real) return append_short_float(value.as_double(), out);
  if (!value.is_object() && !value.is_array()) return append_python_json(value, out);
  out += value.is_object() ? '{' : '[';
  for (std::size_t i = 0; i < value.size(); ++i) {  // as deep as Json::max_depth
    if (i > 0) out += ',';
    if (value.is_object()) {
      append_python_string(value.key(i), out);
      out += ':';
    }
    append_compact_json(value[i], out);
  }
  out += value.is_object() ? '}' : ']';
}

/// A JSON schema as a TypeScript type. Keywords that have no place in it (format, pattern, minLength, anyOf, $ref ...)
/// are left out as openai-harmony leaves them out.
class TypeScriptWriter {
 public:
  std::string out;

  void type(const Json& schema, const std::string& indent) {
    if (const auto variants = array(schema, "oneOf")) return one_of(*variants, indent, std::nullopt, false);
    const auto kind = schema.find("type");
    if (kind && kind->is_array())
      return joined(*kind, [](const Json& name) { return std::string(plain_type(name.as_string())); });
    if (!kind || !kind->is_string()) {
      out += "any";
    } else if (kind->as_string() == "object") {
      object(schema, indent);
    } else if (kind->as_string() == "string" && has_enum(schema)) {
      joined(
          *schema.find("enum"), [](const Json& value) { return concat('"', value.as_string(), '"'); }, "string");
    } else if (kind->as_string() == "array") {
      if (const auto items = schema.find("items")) {
        type(*items, indent);
        out += "[]";
      } else {
        out += "Array<any>";
      }
    } else {
      const std::string_view name = plain_type(kind->as_string());
      out += name == "string" || name == "number" || name == "boolean" ? name : std::string_view("any");
    }
  }

 private:
  static std::string_view plain_type(std::string_view name) {
    return name == "integer" ? std::string_view("number") : name;
  }

  static std::optional<Json> array(const Json& schema, std::string_view key) {
    const auto value = schema.find(key);
    return value && value->is_array() ? value : std::nullopt;
  }

  static bool has_enum(const Json& schema) {
    const auto values = array(schema, "enum");
    return values && values->size() > 0;
  }

  static bool required(const Json& schema, std::string_view key) {
    if (const auto names = array(schema, "required"))
      for (const Json& name : *names)
        if (name.is_string() && name.as_string() == key) return true;
    return false;
  }

  static std::optional<std::string> text(const Json& schema, std::string_view key) {
    const auto value = schema.find(key);
    return value && value->is_string() ? std::optional(std::string(value->as_string())) : std::nullopt;
  }

  template <class Write>
  void joined(const Json& list, Write&& write, std::string_view otherwise = "any") {
    bool first = true;
    for (const Json& element : list) {
      if (!element.is_string()) continue;
      if (!first) out += " | ";
      out += write(element);
      first = false;
    }
    if (first) out += otherwise;
  }

  static std::string default_text(const Json& schema, bool bare = true) {
    const auto value = schema.find("default");
    if (!value) return {};
    std::string text = "default: ";
    if (value->is_string()) {  // not escaped, and bare where the type lists its values
      const std::string_view quote = bare && has_enum(schema) ? "" : "\"";
      text += concat(quote, value->as_string(), quote);
    } else {
      append_compact_json(*value, text);
    }
    return text;
  }

  void nullable_type(const Json& schema, const std::string& indent) {
    const std::size_t begin = out.size();
    type(schema, indent);
    if (schema.is_object() && is_true(schema, "nullable") && out.find("null", begin) == std::string::npos)
      out += " | null";
  }

  static bool is_true(const Json& schema, std::string_view key) {
    const auto value = schema.find(key);
    return value && value->is_bool() && value->as_bool();
  }

  /// One line a variant. `note` is the description of the property they belong to: the first variant then has none, nor
  /// has one that says the same.
  void one_of(const Json& variants, const std::string& indent, const std::optional<std::string>& note,
              bool bare_defaults) {
    for (std::size_t i = 0; i < variants.size(); ++i) {
      out += concat("\n", indent, " | ");
      nullable_type(variants[i], indent + "   ");
      const std::string value = default_text(variants[i], bare_defaults);
      const std::optional<std::string> own = text(variants[i], "description");
      const bool noted = own && !(note && (i == 0 || own == note));
      if (noted || !value.empty()) out += " // ";
      if (noted) out += *own;
      if (noted && !value.empty()) out += ' ';
      out += value;
    }
  }

  void object(const Json& schema, const std::string& indent) {
    if (const auto note = text(schema, "description")) out += concat(indent, "// ", *note, "\n");
    out += "{\n";
    const auto properties = schema.find("properties");
    for (std::size_t i = 0; properties && properties->is_object() && i < properties->size(); ++i) {
      const std::string key(properties->key(i));
      property(key, (*properties)[i], required(schema, key), indent);
    }
    out += concat(indent, "}");
  }

  void property(const std::string& key, const Json& schema, bool is_required, const std::string& indent) {
    const auto variants = array(schema, "oneOf");
    const auto note = text(schema, "description");
    if (const auto title = text(schema, "title")) out += concat(indent, "// ", *title, "\n", indent, "//\n");
    if (note && !variants) out += concat(indent, "// ", *note, "\n");
    if (const auto examples = array(schema, "examples"); examples && examples->size() > 0) {
      out += concat(indent, "// Examples:\n");
      for (const Json& example : *examples)
        if (example.is_string()) out += concat(indent, "// - \"", example.as_string(), "\"\n");
    }
    const std::string value = default_text(schema);
    if (note && variants && (variants->size() == 0 || text((*variants)[0], "description") != note))
      out += concat(indent, "// ", *note, "\n");
    if (!value.empty() && variants) out += concat(indent, "// ", value, "\n");
    out += concat(indent, key, is_required ? ":" : "?:");
    if (variants) {
      one_of(*variants, indent, note, true);
      out += concat("\n", indent, ",\n");
      return;
    }
    out += ' ';
    nullable_type(schema, indent + "    ");
    out += ",";
    if (!value.empty()) out += concat(" // ", value);
    out += "\n";
  }
};

/// Each line of a text behind "// ".
KDLIB_FUNC std::string commented(std::string_view text) {
  std::string out;
  for (std::size_t at = 0; at < text.size();) {
    const std::size_t end = std::min(text.find('\n', at), text.size());
    out += concat("// ", text.substr(at, end - at), "\n");
    at = end + 1;
  }
  return out;
}

/// "namespace NAME { ... } // namespace NAME".
KDLIB_FUNC std::string write_namespace(std::string_view name, const std::vector<HarmonyFunction>& functions) {
  std::string out = concat("namespace ", name, " {\n\n");
  for (const HarmonyFunction& function : functions) {
    out += concat(commented(function.description), "type ", function.name, " = (");
    if (!function.parameters.is_null()) {
      TypeScriptWriter schema;
      schema.type(function.parameters, "");
      out += concat("_: ", schema.out);
    }
    out += ") => any;\n\n";
  }
  return concat(out, "} // namespace ", name);
}

/// The tools section of a developer message.
KDLIB_FUNC std::string write_functions(const std::vector<HarmonyFunction>& functions) {
  return "# Tools\n\n## functions\n\n" + write_namespace("functions", functions);
}

/// The tools section of a system message.
KDLIB_FUNC std::string write_tools(std::vector<HarmonyTools> tools) {
  std::stable_sort(tools.begin(), tools.end(),
                   [](const HarmonyTools& a, const HarmonyTools& b) { return a.name < b.name; });
  std::string out = "# Tools";
  for (const HarmonyTools& t : tools) {
    require<InputError>(!t.functions.empty() || !t.description.empty(), "[chat template] the built-in tools \"", t.name,
                        "\" have neither functions nor a description");
    out += concat("\n\n## ", t.name, "\n\n");
    out += t.functions.empty() ? t.description : commented(t.description) + write_namespace(t.name, t.functions);
  }
  return out;
}

/// The section of a developer message that shows the forms of answers.
KDLIB_FUNC std::string write_formats(const std::vector<HarmonyFormat>& formats) {
  std::string out = "# Response Formats";
  for (const HarmonyFormat& f : formats) {
    out += concat("\n\n## ", f.name, "\n\n", commented(f.description));
    append_compact_json(f.schema, out);
  }
  return out;
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
