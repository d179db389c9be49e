// SPDX-License-Identifier: Apache-2.0
// What the flavours of ChatML write, as parts: the template's own tokens apart from text.
#ifndef KDLIB_TEXT_CHAT_WRITER_INL_HPP
#define KDLIB_TEXT_CHAT_WRITER_INL_HPP

#include "kdlib/text/chat_template.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

struct ChatPart {
  std::string text;
  bool token;  // the name of an added token, written by the template itself
};

class ChatWriter {
 public:
  using Flavour = ChatTemplate::Flavour;
  ChatWriter(Flavour flavour, std::string_view default_system, const RenderOptions& options)
      : flavour_(flavour), default_system_(default_system), options_(options) {}

  std::vector<ChatPart> write(std::span<const ChatMessage> messages) {
    require<InputError>(!messages.empty(), "[chat template] a conversation needs at least one message");
    parts_.clear();
    write_system(messages);
    for (const ChatMessage& message : messages)
      require<InputError>(message.channel.empty() && message.recipient.empty() && message.content_type.empty() &&
                              !message.system && !message.developer,
                          "[chat template] a message of role ", message.role,
                          " has keys of Harmony (channel, recipient, content_type, effort, "
                          "instructions ...), but ChatML has no place for them");
    const std::size_t query = last_query(messages);
    for (std::size_t i = 0; i < messages.size(); ++i) {
      if (flavour_ == Flavour::chatml) write_plain_turn(messages[i]);
      else write_qwen_turn(messages, i, query);
    }
    if (options_.add_generation_prompt) prompt();
    return std::move(parts_);
  }

  std::vector<ChatPart> write_prompt() {
    parts_.clear();
    prompt();
    return std::move(parts_);
  }

 private:
  /// The template's own words: names of tokens in them become tokens.
  void own(std::string_view text) {
    constexpr std::string_view names[] = {"<|im_start|>", "<|im_end|>",   "<think>",         "</think>",
                                          "<tool_call>",  "</tool_call>", "<tool_response>", "</tool_response>"};
    for (std::size_t at; (at = text.find('<')) != std::string_view::npos;) {
      std::string_view hit;
      for (const std::string_view name : names)
        if (text.compare(at, name.size(), name) == 0) hit = name;
      if (hit.empty()) {
        given(text.substr(0, at + 1));
        text.remove_prefix(at + 1);
      } else {
        given(text.substr(0, at));
        parts_.push_back({std::string(hit), true});
        text.remove_prefix(at + hit.size());
      }
    }
    given(text);
  }

  /// Words of the conversation.
  void given(std::string_view text) {
    if (parts_.empty() || parts_.back().token) parts_.push_back({{}, false});
    parts_.back().text += text;
  }

  void open(std::string_view role) {
    own("<|im_start|>");
    given(role);
  }

  void turn(std::string_view role, std::string_view content) {
    open(role);
    given("\n");
    given(content);
    own("<|im_end|>\n");
  }

  void prompt() {
    own("<|im_start|>assistant\n");
    if (flavour_ == Flavour::qwen3 && !options_.enable_thinking) own("<think>\n\n</think>\n\n");
  }

  void write_system(std::span<const ChatMessage> messages) {
    const bool has_system = messages[0].role == "system";
    const bool add_default = !has_system && options_.add_default_system && !default_system_.empty();
    const bool in_loop = flavour_ == Flavour::chatml;  // there the first system message is a turn like others
    if (options_.tools.empty()) {
      if (add_default) turn("system", default_system_);
      else if (has_system && !in_loop) turn("system", messages[0].content);
      return;
    }
    require<InputError>(!in_loop, "[chat template] tools are given, but plain ChatML has no place for them");
    own("<|im_start|>system\n");
    if (has_system) given(messages[0].content);
    if (add_default) given(default_system_);
    if (has_system || add_default) given("\n\n");
    own("# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
        "You are provided with function signatures within <tools></tools> XML tags:\n<tools>");
    for (const std::string& tool : options_.tools) {
      given("\n");
      given(tool);
    }
    own("\n</tools>\n\nFor each function call, return a json object with function name and arguments within "
        "<tool_call></tool_call> XML tags:\n"
        "<tool_call>\n{\"name\": <function-name>, \"arguments\": <args-json-object>}\n</tool_call><|im_end|>\n");
  }

  void write_plain_turn(const ChatMessage& message) {
    require<InputError>(message.tool_calls.empty(),
                        "[chat template] a message calls tools, but plain ChatML has no place for them");
    require<InputError>(!message.reasoning,
                        "[chat template] a message has reasoning_content, but plain ChatML has no place for it");
    turn(message.role, message.content);
  }

  void write_qwen_turn(std::span<const ChatMessage> messages, std::size_t i, std::size_t query) {
    const ChatMessage& message = messages[i];
    if (message.role == "user" || (message.role == "system" && i > 0)) {
      turn(message.role, message.content);
    } else if (message.role == "assistant") {
      if (flavour_ == Flavour::qwen3) write_qwen3_answer(message, i > query, i + 1 == messages.size());
      else write_qwen2_5_answer(message);
    } else if (message.role == "tool") {
      if (i == 0 || messages[i - 1].role != "tool") open("user");
      own("\n<tool_response>\n");
      given(message.content);
      own("\n</tool_response>");
      if (i + 1 == messages.size() || messages[i + 1].role != "tool") own("<|im_end|>\n");
    }  // roles that the template does not know vanish, and the first system message is written already
  }

  void write_qwen2_5_answer(const ChatMessage& message) {
    require<InputError>(!message.reasoning,
                        "[chat template] a message has reasoning_content, but Qwen2.5 has no place for it");
    if (message.tool_calls.empty()) return turn("assistant", message.content);
    open("assistant");
    if (!message.content.empty()) {
      given("\n");
      given(message.content);
    }
    for (const ToolCall& call : message.tool_calls) {
      given("\n");
      write_call(call);
    }
    own("<|im_end|>\n");
  }

  void write_qwen3_answer(const ChatMessage& message, bool behind_query, bool last) {
    constexpr std::string_view think = "<think>", end_think = "</think>";
    std::string_view content = message.content, thought;
    if (message.reasoning) {
      thought = *message.reasoning;
    } else if (content.find(end_think) != std::string_view::npos) {
      thought = trim(content.substr(0, content.find(end_think)), false, true);
      if (const std::size_t at = thought.rfind(think); at != std::string_view::npos)
        thought.remove_prefix(at + think.size());
      thought = trim(thought, true, false);
      content = trim(content.substr(content.rfind(end_think) + end_think.size()), true, false);
    }
    open("assistant");
    given("\n");
    if (behind_query && (last || !thought.empty())) {
      own("<think>\n");
      given(trim(thought, true, true));
      own("\n</think>\n\n");
      given(trim(content, true, false));
    } else {
      given(content);
    }
    for (std::size_t c = 0; c < message.tool_calls.size(); ++c) {
      if (c > 0 || !content.empty()) given("\n");
      write_call(message.tool_calls[c]);
    }
    own("<|im_end|>\n");
  }

  void write_call(const ToolCall& call) {
    own("<tool_call>\n{\"name\": \"");
    given(call.name);
    given("\", \"arguments\": ");
    // Qwen2.5's template writes a text as a JSON string, Qwen3's as it is.
    if (call.arguments_are_text && flavour_ == Flavour::qwen2_5) {
      std::string quoted;
      append_python_string(call.arguments, quoted);
      given(quoted);
    } else {
      given(call.arguments);
    }
    own("}\n</tool_call>");
  }

  /// Index of the last message by a user that is not a tool's answer; the last index when there is none.
  static std::size_t last_query(std::span<const ChatMessage> messages) {
    constexpr std::string_view open = "<tool_response>", close = "</tool_response>";
    for (std::size_t i = messages.size(); i-- > 0;) {
      const std::string_view text = messages[i].content;
      const bool answer = text.substr(0, open.size()) == open && text.size() >= close.size() &&
                          text.substr(text.size() - close.size()) == close;
      if (messages[i].role == "user" && !answer) return i;
    }
    return messages.size() - 1;
  }

  static std::string_view trim(std::string_view text, bool front, bool back) {
    while (front && !text.empty() && text.front() == '\n') text.remove_prefix(1);
    while (back && !text.empty() && text.back() == '\n') text.remove_suffix(1);
    return text;
  }

  Flavour flavour_;
  std::string_view default_system_;
  const RenderOptions& options_;
  std::vector<ChatPart> parts_;
};

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
