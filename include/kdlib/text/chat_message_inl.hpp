// SPDX-License-Identifier: Apache-2.0
// Bodies of chat_message.hpp.
#ifndef KDLIB_TEXT_CHAT_MESSAGE_INL_HPP
#define KDLIB_TEXT_CHAT_MESSAGE_INL_HPP

#include <charconv>
#include <cmath>
#include <cstdio>

#include "kdlib/io/utf8.hpp"
#include "kdlib/text/chat_message.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

KDLIB_FUNC ToolCall tool_call_from_json(const Json& entry) {
  const Json call = entry.find_set("function").value_or(entry);
  ToolCall out;
  out.name = call.at("name").as_string();
  const Json arguments = call.at("arguments");
  out.arguments_are_text = arguments.is_string();
  out.arguments = arguments.is_string() ? std::string(arguments.as_string()) : python_json(arguments);
  return out;
}

KDLIB_FUNC void append_python_string(std::string_view text, std::string& out) {
  out += '"';
  for (const char c : text) {
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      case '\f':
        out += "\\f";
        break;
      case '\b':
        out += "\\b";
        break;
      default:
        if (static_cast<unsigned char>(c) < 0x20) {
          char escape[8];
          std::snprintf(escape, sizeof escape, "\\u%04x", static_cast<unsigned>(static_cast<unsigned char>(c)));
          out += escape;
        } else {
          out += c;
        }
    }
  }
  out += '"';
}

/// Python's repr of a float: the shortest digits that read back, with an exponent below 1e-4 and from 1e16 on.
KDLIB_FUNC void append_python_float(double value, std::string& out) {
  char buffer[400];
  const double size = std::fabs(value);
  const bool exponent = value != 0 && (size < 1e-4 || size >= 1e16);
  const auto end = std::to_chars(buffer, buffer + sizeof buffer, value,
                                 exponent ? std::chars_format::scientific : std::chars_format::fixed)
                       .ptr;
  const std::string_view text(buffer, static_cast<std::size_t>(end - buffer));
  out += text;
  if (!exponent && text.find('.') == std::string_view::npos) out += ".0";
}

KDLIB_FUNC void append_python_json(const Json& value, std::string& out) {
  switch (value.kind()) {
    case Json::Kind::null:
      out += "null";
      break;
    case Json::Kind::boolean:
      out += value.as_bool() ? "true" : "false";
      break;
    case Json::Kind::int64:
      out += std::to_string(value.as_int());
      break;
    case Json::Kind::uint64:
      out += std::to_string(value.as_uint());
      break;
    case Json::Kind::real:
      append_python_float(value.as_double(), out);
      break;
    case Json::Kind::string:
      append_python_string(value.as_string(), out);
      break;
    default: {
      const bool object = value.is_object();
      out += object ? '{' : '[';
      for (std::size_t i = 0; i < value.size(); ++i) {  // as deep as Json::max_depth
        if (i > 0) out += ", ";
        if (object) {
          append_python_string(value.key(i), out);
          out += ": ";
        }
        append_python_json(value[i], out);
      }
      out += object ? '}' : ']';
    }
  }
}

KDLIB_FUNC std::vector<HarmonyFunction> harmony_functions_from_json(const Json& functions) {
  if (!functions.is_array() || functions.size() == 0) functions.refuse("must be an array of at least one function");
  std::vector<HarmonyFunction> list;
  for (const Json& function : functions) list.push_back(harmony_function_from_json(function));
  return list;
}

KDLIB_FUNC std::vector<HarmonyTools> harmony_tools_from_json(const Json& tools) {
  if (!tools.is_array() || tools.size() == 0)
    tools.refuse("must be an array of at least one {name, description, functions}");
  std::vector<HarmonyTools> list;
  for (const Json& entry : tools) {
    HarmonyTools& t = list.emplace_back();
    t.name = entry.at("name").as_string();
    t.description = entry.string_or("description", "");
    if (const auto functions = entry.find_set("functions")) t.functions = harmony_functions_from_json(*functions);
    if (t.functions.empty() && t.description.empty()) entry.refuse("has neither functions nor a description");
  }
  return list;
}

KDLIB_FUNC std::vector<HarmonyFormat> harmony_formats_from_json(const Json& formats) {
  if (!formats.is_array() || formats.size() == 0)
    formats.refuse("must be an array of at least one {name, description, schema}");
  std::vector<HarmonyFormat> list;
  for (const Json& entry : formats) {
    const Json schema = entry.at("schema");
    if (!schema.is_object()) schema.refuse("must be an object: a JSON schema");
    list.push_back({std::string(entry.at("name").as_string()), entry.string_or("description", ""), schema});
  }
  return list;
}

KDLIB_FUNC void read_harmony_keys(const Json& message, ChatMessage& out) {
  out.name = message.string_or("name", "");
  out.channel = message.string_or("channel", "");
  out.recipient = message.string_or("recipient", "");
  out.content_type = message.string_or("content_type", "");
  const auto has = [&](std::string_view key) { return message.find_set(key).has_value(); };
  if (out.role == "system" && (has("effort") || has("cutoff") || has("date") || has("identity") || has("tools"))) {
    HarmonySystem system;
    system.effort = message.string_or("effort", system.effort);
    if (system.effort != "low" && system.effort != "medium" && system.effort != "high")
      message.at("effort").refuse("must be low, medium or high");
    system.cutoff = message.string_or("cutoff", system.cutoff);
    system.date = message.string_or("date", system.date);
    system.identity = message.string_or("identity", system.identity);
    if (const auto tools = message.find_set("tools")) system.tools = harmony_tools_from_json(*tools);
    out.system = std::move(system);
  }
  if (out.role == "developer" && !has("content")) {
    HarmonyDeveloper developer;
    if (const auto text = message.find_set("instructions")) developer.instructions = std::string(text->as_string());
    if (const auto functions = message.find_set("functions"))
      developer.functions = harmony_functions_from_json(*functions);
    if (const auto formats = message.find_set("response_formats"))
      developer.formats = harmony_formats_from_json(*formats);
    out.developer = std::move(developer);
  }
}

/// A content as one text: a string, or parts of type text.
KDLIB_FUNC std::string content_text(const Json& content) {
  if (!content.is_array()) return std::string(content.as_string());
  std::string out;
  for (const Json& part : content) {
    if (part.string_or("type", "") != "text")
      part.refuse("is a part of a content that is no text; kdlib reads {\"type\": \"text\", \"text\": ...}");
    out += part.at("text").as_string();
  }
  return out;
}

KDLIB_FUNC bool is_role(std::string_view role) {
  for (const char c : role)
    if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '-'))
      return false;
  return !role.empty();
}

}  // namespace detail

KDLIB_FUNC HarmonyFunction harmony_function_from_json(const Json& tool) {
  const Json function = tool.find_set("function").value_or(tool);
  const Json parameters = function.find_set("parameters").value_or(Json());
  if (!parameters.is_null() && !parameters.is_object()) parameters.refuse("must be an object: a JSON schema");
  return {std::string(function.at("name").as_string()), function.string_or("description", ""), parameters};
}

KDLIB_FUNC std::string python_json(const Json& value) {
  std::string out;
  detail::append_python_json(value, out);
  return out;
}

KDLIB_FUNC ChatMessage chat_message_from_json(const Json& message) {
  if (!message.is_object()) message.refuse("must be an object with role and content");
  ChatMessage out;
  out.source = message;
  out.role = message.at("role").as_string();
  if (!detail::is_role(out.role))
    message.at("role").refuse(concat("is \"", printable(out.role), "\", a role is letters, digits, '_' and '-'"));
  if (const auto calls = message.find_set("tool_calls"))
    for (const Json& call : *calls) out.tool_calls.push_back(detail::tool_call_from_json(call));
  detail::read_harmony_keys(message, out);
  const auto content = message.find_set("content");
  if (content && (out.system || message.contains("instructions") || message.contains("functions") ||
                  message.contains("response_formats")))
    content->refuse(
        "stands beside keys that Harmony writes a content from (effort, cutoff, date, identity, tools, instructions, "
        "functions, response_formats)");
  if (content) {
    out.content = detail::content_text(*content);
  } else if (out.tool_calls.empty() && !out.system && !out.developer) {
    message.refuse("has no content");
  }
  if (const auto reasoning = message.find_set("reasoning_content")) out.reasoning = std::string(reasoning->as_string());
  return out;
}

KDLIB_FUNC std::vector<ChatMessage> chat_messages_from_json(const Json& messages) {
  if (!messages.is_array() || messages.size() == 0) messages.refuse("must be an array of at least one message");
  std::vector<ChatMessage> out;
  for (const Json& message : messages) out.push_back(chat_message_from_json(message));
  return out;
}

KDLIB_NAMESPACE_END

#endif
