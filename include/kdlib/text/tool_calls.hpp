// SPDX-License-Identifier: Apache-2.0
// Finds calls of tools in a text that a model wrote. The form of a call is learned from the chat template: the template
// renders a call with known words, and the places of these words show the form.
#ifndef KDLIB_TEXT_TOOL_CALLS_HPP
#define KDLIB_TEXT_TOOL_CALLS_HPP

#include <string>
#include <string_view>
#include <vector>

#include "kdlib/text/chat_template.hpp"

KDLIB_NAMESPACE_BEGIN

/// A call that a model wrote. `problem` is empty if the call can be carried out; otherwise it is a sentence with the
/// reason, such as broken JSON.
struct WrittenCall {
  ToolCall call;
  std::string problem;
};

/// The form in which a template writes calls. It is one of these:
///   OPENING JSON                   a JSON object with the name and the arguments (Qwen, Hermes, Llama 3.1)
///   OPENING [JSON, JSON, ...]      an array of such objects (Mistral)
///   OPENING NAME MIDDLE ARGUMENTS  the arguments alone are JSON (DeepSeek, gpt-oss)
/// If OPENING is empty (Llama 3.1), an answer that begins with such an object is a call.
class ToolCallFormat {
 public:
  /// Learns the form from a template. ConfigError names the template: the template has no place for tools, or writes
  /// calls in another form.
  static ToolCallFormat of(const ChatTemplate& chat, const RenderOptions& options = {});

  /// Returns the calls in a text that a model wrote, in their order; an empty list if there are none. The text must
  /// contain special tokens as text. What the text contains never causes an exception. At most `max_calls` calls are
  /// read.
  std::vector<WrittenCall> read(std::string_view text) const;

  static constexpr std::size_t max_calls = 64;
  const std::string& opening() const { return opening_; }
  const std::string& middle() const { return middle_; }  // behind the name; empty: the name is in the JSON
  bool is_array() const { return array_; }

 private:
  using Path = std::vector<std::string>;  // keys, from the outermost object inwards

  void learn(std::string_view turn, std::string_view template_name);
  void learn_opening(std::string_view before, std::string_view turn, std::size_t behind);
  bool learn_keys(const Json& object, Path& path, unsigned depth);
  WrittenCall from_object(std::string_view json) const;
  WrittenCall from_value(const Json& object) const;
  std::size_t read_objects(std::string_view text, std::size_t at, std::vector<WrittenCall>& calls) const;
  std::size_t read_named(std::string_view text, std::size_t at, std::vector<WrittenCall>& calls) const;

  std::string opening_, middle_;
  bool array_ = false, named_ = false;  // named_: true if the name stands in front of the JSON
  Path name_, arguments_;
};

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/text/tool_calls_inl.hpp"
#endif

#endif
