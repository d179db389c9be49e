// SPDX-License-Identifier: Apache-2.0
// How a conversation is written out.
#ifndef KDLIB_TEXT_CHAT_OPTIONS_HPP
#define KDLIB_TEXT_CHAT_OPTIONS_HPP

#include <optional>
#include <string>
#include <vector>

#include "kdlib/text/chat_message.hpp"
#include "kdlib/text/jinja.hpp"

KDLIB_NAMESPACE_BEGIN

/// Which messages on channel analysis (thoughts, calls of built-in tools and their answers) of a Harmony conversation
/// are left out.
enum class PastAnalysis {
  off,          // none
  reference,    // openai-harmony: those before the first final message, if the assistant's last message is on final
  all_finished  // those of every turn that a final or a user's message ended; the turn of a training target is kept
};

/// How a conversation is written out.
struct RenderOptions {
  bool add_generation_prompt = false;   // end with the opening of an assistant turn
  bool add_default_system = true;       // the template's own system turn where the conversation has none
  bool enable_thinking = true;          // false: a variable of that name is false (Qwen3 closes an empty thought)
  std::vector<std::string> tools = {};  // one JSON text a tool, as python_json writes it (not for plain ChatML)
  // Templates of files only:
  Json documents = {};     // for retrieval: an array, or null
  Json variables = {};     // an object: more variables of the template, or others for those above
  bool preprocess = true;  // as transformers >= 5.2: null keys of messages go, reasoning_content and thinking are
                           // copied to each other
  bool continue_final_message = false;   // the text ends with the last message's content
  bool join_parts = false;               // contents in parts are given to the template as one text
  std::optional<JinjaClock> clock = {};  // for strftime_now; empty: now
  JinjaLimits limits = {};
  // Harmony only:
  bool training = false;  // a final message at the end is a training target: <|return|> ends it
  PastAnalysis past_analysis = PastAnalysis::all_finished;
  HarmonySystem system = {};  // what add_default_system writes
};

KDLIB_NAMESPACE_END

#endif
