// SPDX-License-Identifier: Apache-2.0
// Messages of a conversation, as they stand in the lines {"messages": [...]} of data files.
#ifndef KDLIB_TEXT_CHAT_MESSAGE_HPP
#define KDLIB_TEXT_CHAT_MESSAGE_HPP

#include <optional>
#include <string>
#include <vector>

#include "kdlib/io/json.hpp"

KDLIB_NAMESPACE_BEGIN

/// A function call that an assistant asks for.
struct ToolCall {
  std::string name;
  std::string arguments;  // the arguments as JSON text in the form of python_json, or the text of the data file
  bool arguments_are_text = false;  // true: the data file holds the arguments as a string
};

/// A function that the model may call. `parameters` is a JSON schema, or null if there are none.
struct HarmonyFunction {
  std::string name, description;
  Json parameters;
};

/// Built-in tools under one name (browser, python): functions in a namespace of this name, or only a description.
struct HarmonyTools {
  std::string name, description;
  std::vector<HarmonyFunction> functions = {};
};

/// The contents of the system message of Harmony, the message format of gpt-oss. An empty cutoff or date is left out;
/// tools are written in the order of their names.
struct HarmonySystem {
  std::string effort = "medium";  // of reasoning: low, medium or high
  std::string cutoff = "2024-06";
  std::string date = {};
  std::string identity = "You are ChatGPT, a large language model trained by OpenAI.";
  std::vector<HarmonyTools> tools = {};
};

/// A format that the developer may require of answers. `schema` is a JSON schema.
struct HarmonyFormat {
  std::string name, description;
  Json schema;
};

/// The contents of the developer message of Harmony, in the order in which they are written.
struct HarmonyDeveloper {
  std::optional<std::string> instructions = {};
  std::vector<HarmonyFunction> functions = {};
  std::vector<HarmonyFormat> formats = {};
};

/// One turn of a conversation.
struct ChatMessage {
  std::string role;                           // system, developer, user, assistant or tool
  std::string content;                        // the text; parts of type text are joined
  std::optional<std::string> reasoning = {};  // `reasoning_content`: the thought before the answer
  std::vector<ToolCall> tool_calls = {};
  std::string name = {};  // name of a tool or an author; ChatML does not write names
  // The following members are for Harmony only:
  std::string channel = {}, recipient = {}, content_type = {};
  std::optional<HarmonySystem> system = {};        // for role system without a content
  std::optional<HarmonyDeveloper> developer = {};  // for role developer without a content
  /// The message as it stands in a data file, or null. A Jinja template sees all keys of `source`, but `role` and a
  /// `content` that is one string come from the fields above. The built-in templates do not read `source`.
  Json source = {};
};

/// Reads one element of `messages`. Its keys are role, content (a string or parts {"type": "text", "text": ...}; null
/// or missing only beside tool_calls), reasoning_content, tool_calls and name. Harmony adds channel, recipient and
/// content_type. In Harmony, a message of role system may have effort, cutoff, date, identity and tools instead of a
/// content, and one of role developer may have instructions, functions and response_formats, or nothing. FormatError
/// names the key of anything else, such as parts that are not text, or a role that is not made of letters, digits, '_'
/// and '-'.
ChatMessage chat_message_from_json(const Json& message);

/// Reads an array of messages. FormatError: the array is empty, or a message is wrong.
std::vector<ChatMessage> chat_messages_from_json(const Json& messages);

/// Reads a function that is offered to the model: {"name", "description", "parameters"}, or {"function": {...}} with
/// the same members inside.
HarmonyFunction harmony_function_from_json(const Json& tool);

/// Writes a value as Python's json.dumps(value, ensure_ascii=False) does. Chat templates put tools into the prompt in
/// this form.
std::string python_json(const Json& value);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/text/chat_message_inl.hpp"
#endif

#endif
