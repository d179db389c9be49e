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
  std::string arguments;           // JSON text as python_json writes it, or the text itself
  bool arguments_are_text = false;  // the data holds the arguments as a JSON string
};

struct ChatMessage {
  std::string role;     // system, user, assistant, tool
  std::string content;
  std::optional<std::string> reasoning = {};  // `reasoning_content`: the thought before the answer
  std::vector<ToolCall> tool_calls = {};
};

/// One element of `messages`: role, content (a string; null or missing only beside tool_calls), reasoning_content, tool_calls.
/// FormatError naming the key for anything else, such as contents in parts.
ChatMessage chat_message_from_json(const Json& message);

/// All of an array of messages. FormatError when it is empty.
std::vector<ChatMessage> chat_messages_from_json(const Json& messages);

/// A value as Python's json.dumps(value, ensure_ascii=False) writes it: chat templates put tools into the prompt in this form.
std::string python_json(const Json& value);

KDLIB_NAMESPACE_END

#include "kdlib/text/chat_message_inl.hpp"

#endif
