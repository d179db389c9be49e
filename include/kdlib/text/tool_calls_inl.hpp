// SPDX-License-Identifier: Apache-2.0
// Bodies of tool_calls.hpp.
#ifndef KDLIB_TEXT_TOOL_CALLS_INL_HPP
#define KDLIB_TEXT_TOOL_CALLS_INL_HPP

#include <algorithm>
#include <optional>

#include "kdlib/io/json_writer.hpp"
#include "kdlib/io/utf8.hpp"
#include "kdlib/text/chat_jinja.hpp"
#include "kdlib/text/jinja_text.hpp"
#include "kdlib/text/tool_calls.hpp"
#include "kdlib/text/unicode.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

inline constexpr std::string_view probe_name = "kdlib_probe_name", probe_key = "kdlib_probe_key",
                                  probe_value = "kdlib_probe_value";

/// The index behind the JSON object or array that begins at `at`, by its brackets and strings alone; npos: it does not
/// end.
KDLIB_FUNC std::size_t end_of_json(std::string_view text, std::size_t at) {
  std::size_t depth = 0;
  for (bool in_string = false; at < text.size(); ++at) {
    const char c = text[at];
    if (in_string) {
      if (c == '\\') ++at;
      else if (c == '"') in_string = false;
    } else if (c == '"') {
      in_string = true;
    } else if (c == '{' || c == '[') {
      ++depth;
    } else if (c == '}' || c == ']') {
      if (--depth == 0) return at + 1;
    }
  }
  return std::string_view::npos;
}

KDLIB_FUNC std::optional<Json> try_json(std::string_view text) {
  try {
    return Json::parse(std::string(text), "the call");
  } catch (const FormatError&) {
    return std::nullopt;
  }
}

KDLIB_FUNC std::size_t skip_space(std::string_view text, std::size_t at) {
  while (at < text.size() && (text[at] == ' ' || text[at] == '\n' || text[at] == '\t' || text[at] == '\r')) ++at;
  return at;
}

/// A conversation whose answer calls one tool `calls` times.
KDLIB_FUNC std::vector<ChatMessage> probe_messages(std::size_t calls) {
  JsonWriter list;
  list.begin_object().member("role", "assistant").member("content", "").key("tool_calls").begin_array();
  for (std::size_t i = 0; i < calls; ++i) {
    list.begin_object().member("id", concat("kdlib000", i)).member("type", "function").key("function").begin_object();
    list.member("name", probe_name).key("arguments").begin_object().member(probe_key, probe_value);
    list.end_object().end_object().end_object();
  }
  list.end_array().end_object();
  return {ChatMessage{"user", "?"}, chat_message_from_json(Json::parse(list.text(), "the probe"))};
}

KDLIB_FUNC std::string template_name(const ChatTemplate& chat, const RenderOptions& options) {
  return chat.jinja_chat() != nullptr ? chat.jinja_chat()->chosen(options).name() : std::string("this built-in one");
}

/// What the template writes for the answer with these calls, or nothing where it refuses them.
KDLIB_FUNC std::optional<std::string> probe_turn(const ChatTemplate& chat, RenderOptions options, std::size_t calls) {
  if (options.tools.empty())
    options.tools = {R"({"type": "function", "function": {"name": "other", "description": "x", "parameters": )"
                     R"({"type": "object", "properties": {}}}})"};
  try {
    const std::vector<ChatMessage> messages = probe_messages(calls);
    options.add_generation_prompt = false;
    const std::string whole = chat.render(messages, options);
    options.add_generation_prompt = true;
    const std::string before = chat.render(std::span(messages).first(1), options);
    const auto ends = std::mismatch(before.begin(), before.end(), whole.begin(), whole.end());
    return whole.substr(static_cast<std::size_t>(ends.second - whole.begin()));
  } catch (const Error&) {
    return std::nullopt;
  }
}

}  // namespace detail

KDLIB_FUNC ToolCallFormat ToolCallFormat::of(const ChatTemplate& chat, const RenderOptions& options) {
  const std::string name = detail::template_name(chat, options);
  require<ConfigError>(chat.reads("tool"), "[tools] the chat template ", name,
                       " has no place for tools; choose another one (--template)");
  ToolCallFormat out;
  std::optional<std::string> turn = detail::probe_turn(chat, options, 2);
  if (!turn) turn = detail::probe_turn(chat, options, 1);  // some templates take one call alone
  require<ConfigError>(turn.has_value(), "[tools] the chat template ", name, " refuses a call of a tool");
  out.learn(*turn, name);
  return out;
}

KDLIB_FUNC void ToolCallFormat::learn(std::string_view turn, std::string_view template_name) {
  using namespace detail;
  const std::size_t name = turn.find(probe_name);
  const auto require_form = [&](bool holds) {
    require<ConfigError>(holds, "[tools] the chat template ", template_name,
                         " writes calls in a form that kdlib does not read back (known are JSON objects with name and "
                         "arguments, arrays of them, and a name before JSON arguments): ",
                         printable(turn.substr(0, std::min<std::size_t>(turn.size(), 300))));
  };
  require_form(name != turn.npos);
  for (std::size_t at = turn.find('{'); at < name; at = turn.find('{', at + 1)) {
    const std::size_t end = end_of_json(turn, at);
    if (end == turn.npos || end < name) continue;
    const auto object = try_json(turn.substr(at, end - at));
    Path path;
    if (!object || !learn_keys(*object, path, 0) || name_.empty() || arguments_.empty()) continue;
    std::string_view before = strip(turn.substr(0, at), Sides::right);
    array_ = !before.empty() && before.back() == '[' && end_of_json(turn, before.size() - 1) != turn.npos;
    if (array_) before.remove_suffix(1);
    return learn_opening(before, turn, array_ ? turn.size() : end);
  }
  named_ = true;
  const std::size_t behind = name + probe_name.size(), at = turn.find('{', behind);
  require_form(at != turn.npos && at > behind);
  const std::size_t end = end_of_json(turn, at);
  require_form(end != turn.npos);
  const auto arguments = try_json(turn.substr(at, end - at));
  require_form(arguments && arguments->contains(probe_key));
  middle_ = strip(turn.substr(behind, at - behind), Sides::both);
  learn_opening(turn.substr(0, name), turn, end);
  require_form(!middle_.empty() && !opening_.empty());
}

/// What stands before each of two calls is the opening: before the first one a thought may stand, too.
KDLIB_FUNC void ToolCallFormat::learn_opening(std::string_view before, std::string_view turn, std::size_t behind) {
  const std::size_t second = turn.find(detail::probe_name, behind);
  if (second != turn.npos) {
    std::string_view between = turn.substr(behind, second - behind);
    if (!named_) between = between.substr(0, between.find('{'));
    between = detail::strip(between, detail::Sides::right);
    before = detail::strip(before, detail::Sides::right);
    std::size_t same = 0;
    while (same < before.size() && same < between.size() &&
           before[before.size() - same - 1] == between[between.size() - same - 1])
      ++same;
    const bool whole = same == before.size();
    before.remove_prefix(before.size() - same);
    // What is equal may begin within a mark: "</one><two>" and "<all><two>".
    if (const std::size_t mark = before.find_first_of("<["); !whole && mark != before.npos) before.remove_prefix(mark);
  }
  opening_ = detail::strip(before, detail::Sides::both);
}

/// Finds the keys of name and arguments; false where a level is too deep.
KDLIB_FUNC bool ToolCallFormat::learn_keys(const Json& object, Path& path, unsigned depth) {
  if (depth > 3 || !object.is_object()) return false;
  for (const auto& [key, value] : object.members()) {
    path.emplace_back(key);
    const bool text = value.is_string();
    const auto inner = text ? detail::try_json(value.as_string()) : std::nullopt;
    if (text && value.as_string() == detail::probe_name) name_ = path;
    else if (value.contains(detail::probe_key) || (inner && inner->contains(detail::probe_key))) arguments_ = path;
    else if (value.is_object()) learn_keys(value, path, depth + 1);
    path.pop_back();
  }
  return true;
}

KDLIB_FUNC WrittenCall ToolCallFormat::from_value(const Json& object) const {
  const auto find = [&](const Path& path) {
    std::optional<Json> at = object;
    for (const std::string& key : path) at = at ? at->find(key) : at;
    return at;
  };
  const auto name = find(name_);
  if (!name || !name->is_string() || name->as_string().empty())
    return {{}, concat("the call has no \"", name_.back(), "\"")};
  WrittenCall out{{std::string(name->as_string()), "{}"}, {}};
  const auto arguments = find(arguments_);
  if (!arguments || arguments->is_null()) return out;
  if (arguments->is_object()) {
    out.call.arguments = python_json(*arguments);
    return out;
  }
  const auto inner = arguments->is_string() ? detail::try_json(arguments->as_string()) : std::nullopt;
  if (!inner || !inner->is_object()) out.problem = concat("\"", arguments_.back(), "\" of the call is no JSON object");
  else out.call.arguments = python_json(*inner);
  return out;
}

KDLIB_FUNC WrittenCall ToolCallFormat::from_object(std::string_view json) const {
  const auto object = detail::try_json(json);
  if (!object || !object->is_object()) return {{}, "the call is no JSON object"};
  return from_value(*object);
}

/// Reads one object, or an array of them, from `at` on; the index behind it.
KDLIB_FUNC std::size_t ToolCallFormat::read_objects(std::string_view text, std::size_t at,
                                                    std::vector<WrittenCall>& calls) const {
  at = detail::skip_space(text, at);
  const char first = array_ ? '[' : '{';
  if (at == text.size() || text[at] != first) {
    calls.push_back({{}, array_ ? "the call is no JSON array" : "the call is no JSON object"});
    return at;
  }
  const std::size_t end = detail::end_of_json(text, at);
  if (end == text.npos) {
    calls.push_back({{}, "the JSON of the call does not end"});
    return text.size();
  }
  const std::string_view json = text.substr(at, end - at);
  const auto list = array_ ? detail::try_json(json) : std::nullopt;
  if (!array_) {
    calls.push_back(from_object(json));
  } else if (!list) {
    calls.push_back({{}, "the call is no JSON array"});
  } else {
    for (const Json& object : *list) {
      if (calls.size() == max_calls) break;
      calls.push_back(object.is_object() ? from_value(object) : WrittenCall{{}, "the call is no JSON object"});
    }
  }
  return end;
}

KDLIB_FUNC std::size_t ToolCallFormat::read_named(std::string_view text, std::size_t at,
                                                  std::vector<WrittenCall>& calls) const {
  constexpr std::size_t longest_name = 128;
  constexpr std::string_view message = "<|message|>";  // Harmony's header may say the same in another order
  const std::string_view near = text.substr(0, std::min(text.size(), at + longest_name + middle_.size()));
  std::size_t middle = near.find(middle_, at), behind = middle + middle_.size();
  if (middle == text.npos && middle_.ends_with(message) && near.find(message, at) != text.npos) {
    behind = near.find(message, at) + message.size();
    middle = near.find_first_of(" <", at);
  }
  if (middle == text.npos) {
    calls.push_back({{}, concat("the name of the call is not followed by ", printable(middle_))});
    return at;
  }
  const std::string name(detail::strip(text.substr(at, middle - at), detail::Sides::both));
  at = detail::skip_space(text, behind);
  const std::size_t end = at < text.size() && text[at] == '{' ? detail::end_of_json(text, at) : text.npos;
  const auto arguments = end == text.npos ? std::nullopt : detail::try_json(text.substr(at, end - at));
  if (arguments) calls.push_back({{name, python_json(*arguments)}, {}});
  else calls.push_back({{name, {}}, "the arguments of the call are no JSON object"});
  return end == text.npos ? at : end;
}

KDLIB_FUNC std::vector<WrittenCall> ToolCallFormat::read(std::string_view text) const {
  std::vector<WrittenCall> calls;
  std::string repaired;  // what reads the text expects UTF-8, and a model may write any bytes
  if (find_invalid_utf8(text) != text.npos) text = repaired = replace_invalid_utf8(text);
  if (opening_.empty()) {
    constexpr std::string_view tag = "<|python_tag|>";  // Llama 3.1 may put this before a call
    std::size_t at = detail::skip_space(text, 0);
    if (text.substr(at, tag.size()) == tag) at = detail::skip_space(text, at + tag.size());
    if (at == text.size() || text[at] != (array_ ? '[' : '{')) return calls;
    read_objects(text, at, calls);
    if (!calls.front().problem.empty() && calls.front().call.name.empty()) calls.clear();  // words, not a call
    return calls;
  }
  for (std::size_t at = 0; calls.size() < max_calls;) {
    at = text.find(opening_, at);
    if (at == text.npos) break;
    at += opening_.size();
    at = named_ ? read_named(text, at, calls) : read_objects(text, at, calls);
  }
  return calls;
}

KDLIB_NAMESPACE_END

#endif
