// SPDX-License-Identifier: Apache-2.0
// Messages of a conversation, as the lines {"messages": [...]} of data files have them.
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
  std::string arguments;            // JSON text as python_json writes it, or the text itself
  bool arguments_are_text = false;  // the data holds the arguments as a JSON string
};

/// A function that the model may call. `parameters` is a JSON schema, or null for none.
struct HarmonyFunction {
  std::string name, description;
  Json parameters;
};

/// Built-in tools of one name (browser, python): functions in a namespace of that name, or a description alone.
struct HarmonyTools {
  std::string name, description;
  std::vector<HarmonyFunction> functions = {};
};

/// What the system message of Harmony (gpt-oss) says. An empty cutoff or date is left out; tools are written in the
/// order of their names.
struct HarmonySystem {
  std::string effort = "medium";  // of reasoning: low, medium, high
  std::string cutoff = "2024-06";
  std::string date = {};
  std::string identity = "You are ChatGPT, a large language model trained by OpenAI.";
  std::vector<HarmonyTools> tools = {};
};

/// A form that answers may be asked to have. `schema` is a JSON schema.
struct HarmonyFormat {
  std::string name, description;
  Json schema;
};

/// What the developer message of Harmony says, in this order.
struct HarmonyDeveloper {
  std::optional<std::string> instructions = {};
  std::vector<HarmonyFunction> functions = {};
  std::vector<HarmonyFormat> formats = {};
};

/// One turn of a conversation.
struct ChatMessage {
  std::string role;                           // system, developer, user, assistant, tool
  std::string content;                        // parts of type text are joined
  std::optional<std::string> reasoning = {};  // `reasoning_content`: the thought before the answer
  std::vector<ToolCall> tool_calls = {};
  std::string name = {};  // of a tool or an author; ChatML does not write it
  // Harmony only:
  std::string channel = {}, recipient = {}, content_type = {};
  std::optional<HarmonySystem> system = {};        // role system without a content
  std::optional<HarmonyDeveloper> developer = {};  // role developer without a content
  /// The message as a data file has it, or null. A template sees all its keys; `role` and a `content` that is one
  /// string come from the fields above. The built-in writers do not look at it.
  Json source = {};
};

/// One element of `messages`: role, content (a string or parts {"type": "text", "text": ...}; null or missing only
/// beside tool_calls), reasoning_content, tool_calls, name; for Harmony channel, recipient, content_type, or instead of
/// a content: with role system effort, cutoff, date, identity, tools; with role developer instructions, functions,
/// response_formats or nothing. FormatError naming the key for anything else, such as parts that are no text, and for
/// a role that is not made of letters, digits, '_' and '-'.
ChatMessage chat_message_from_json(const Json& message);

/// All of an array of messages. FormatError when it is empty.
std::vector<ChatMessage> chat_messages_from_json(const Json& messages);

/// An offered function: {"name", "description", "parameters"} or {"function": that}.
HarmonyFunction harmony_function_from_json(const Json& tool);

/// A value as Python's json.dumps(value, ensure_ascii=False) writes it: chat templates put tools into the prompt in
/// this form.
std::string python_json(const Json& value);

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/text/chat_message_inl.hpp"
#endif

#endif
