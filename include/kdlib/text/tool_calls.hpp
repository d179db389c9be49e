// SPDX-License-Identifier: Apache-2.0
// Calls of tools in what a model wrote. How a call looks is learned from the chat template: it renders a call with
// known words, and the places of these words give the form.
#ifndef KDLIB_TEXT_TOOL_CALLS_HPP
#define KDLIB_TEXT_TOOL_CALLS_HPP

#include <string>
#include <string_view>
#include <vector>

#include "kdlib/text/chat_template.hpp"

KDLIB_NAMESPACE_BEGIN

/// A call that a model wrote. `problem`: a sentence that says why it cannot be carried out, such as broken JSON; empty:
/// it can.
struct WrittenCall {
  ToolCall call;
  std::string problem;
};

/// The form of a template's calls, one of:
///   OPENING JSON                   a JSON object with the name and the arguments (Qwen, Hermes, Llama 3.1)
///   OPENING [JSON, JSON, ...]      an array of such objects (Mistral)
///   OPENING NAME MIDDLE ARGUMENTS  the arguments alone are JSON (DeepSeek, gpt-oss)
/// Where OPENING is empty (Llama 3.1) an answer that begins with such an object is a call.
class ToolCallFormat {
 public:
  /// ConfigError naming the template that has no place for tools, or writes calls in another form.
  static ToolCallFormat of(const ChatTemplate& chat, const RenderOptions& options = {});

  /// The calls in what a model wrote, special tokens included as text, in their order; none where it calls nothing.
  /// Never throws for what the text holds. At most `max_calls` are read.
  std::vector<WrittenCall> read(std::string_view text) const;

  static constexpr std::size_t max_calls = 64;
  const std::string& opening() const { return opening_; }
  const std::string& middle() const { return middle_; }  // behind the name; empty where the name stands in the JSON
  bool is_array() const { return array_; }

 private:
  using Path = std::vector<std::string>;  // keys from the outermost object on

  void learn(std::string_view turn, std::string_view template_name);
  void learn_opening(std::string_view before, std::string_view turn, std::size_t behind);
  bool learn_keys(const Json& object, Path& path, unsigned depth);
  WrittenCall from_object(std::string_view json) const;
  WrittenCall from_value(const Json& object) const;
  std::size_t read_objects(std::string_view text, std::size_t at, std::vector<WrittenCall>& calls) const;
  std::size_t read_named(std::string_view text, std::size_t at, std::vector<WrittenCall>& calls) const;

  std::string opening_, middle_;
  bool array_ = false, named_ = false;  // named_: the name stands in front of the JSON
  Path name_, arguments_;
};

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/text/tool_calls_inl.hpp"
#endif

#endif
