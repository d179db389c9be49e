// SPDX-License-Identifier: Apache-2.0
// Options for writing a conversation as text.
#ifndef KDLIB_TEXT_CHAT_OPTIONS_HPP
#define KDLIB_TEXT_CHAT_OPTIONS_HPP

#include <optional>
#include <string>
#include <vector>

#include "kdlib/text/chat_message.hpp"
#include "kdlib/text/jinja.hpp"

KDLIB_NAMESPACE_BEGIN

/// Which messages on channel analysis of a Harmony conversation are left out. This channel holds thoughts, calls of
/// built-in tools and the answers of these tools.
enum class PastAnalysis {
  off,          // none are left out
  reference,    // as in openai-harmony: the messages before the first final message, if the assistant's last message is
                // on channel final
  all_finished  // the messages of every turn that a final message or a user's message ended; the turn of a training
                // target is kept
};

/// How a conversation is written as text.
struct RenderOptions {
  bool add_generation_prompt = false;  // true: the text ends with the opening of an assistant turn
  bool add_default_system = true;      // true: the template's own system turn is written if the conversation has none
  bool enable_thinking = true;         // false: the template's variable of this name is false (Qwen3: an empty thought)
  std::vector<std::string> tools = {};  // one JSON text for each tool, in the form of python_json; not for plain ChatML
  // The following members are for templates of files only:
  Json documents = {};  // documents for retrieval: an array, or null
  Json variables = {};  // an object with further variables of the template, which may also replace the variables above
  bool preprocess = true;  // true: as in transformers >= 5.2, keys of messages whose value is null are removed, and
                           // reasoning_content and thinking are copied to each other
  bool continue_final_message = false;   // true: the text ends with the last content, which a model can continue
  bool join_parts = false;               // true: contents in parts are given to the template as one text
  std::optional<JinjaClock> clock = {};  // the time for strftime_now; empty: the present time
  JinjaLimits limits = {};
  // The following members are for Harmony only:
  bool training = false;  // true: a final message at the end is a training target and ends with <|return|>
  PastAnalysis past_analysis = PastAnalysis::all_finished;
  HarmonySystem system = {};  // the system message that add_default_system writes
};

KDLIB_NAMESPACE_END

#endif
