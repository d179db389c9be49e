// SPDX-License-Identifier: Apache-2.0
// Text of several turns: where a model calls tools, their answers are put behind its words and it writes on.
#ifndef KDLIB_ROLLOUT_TOOL_TURNS_HPP
#define KDLIB_ROLLOUT_TOOL_TURNS_HPP

#include <memory>
#include <string>
#include <vector>

#include "kdlib/data/prompts.hpp"
#include "kdlib/rollout/generate.hpp"
#include "kdlib/rollout/tool_host.hpp"
#include "kdlib/text/prompt_chat.hpp"
#include "kdlib/text/tool_calls.hpp"

KDLIB_NAMESPACE_BEGIN

/// Bounds of ToolTurns.
struct ToolLimits {
  std::int64_t rounds = 4;           // turns with calls that are answered; a later one ends the text
  std::int64_t answer_tokens = 256;  // of one answer; a longer one is cut and ends with " [...]"
  std::int64_t calls = 8;            // of one turn; those behind are answered by a sentence that says so
  double seconds = 10;               // of one answer
};

/// Answers the calls of many texts. What stands behind a turn is what the template writes between that turn and the
/// next generation prompt: the tools' answers as the template has them, never the model's words rendered anew. Prompts
/// that are no conversations have one turn.
class ToolTurns {
 public:
  /// ConfigError: limits below 1. The stop ids are those of the sampler: a turn ends with one.
  ToolTurns(Tokenizer tokenizer, std::shared_ptr<ToolHost> host, std::vector<std::int32_t> stop_ids,
            ToolLimits limits = {});

  /// For GenerateSettings::reply: the conversations of the requests, nullptr for none. ConfigError from it: a template
  /// without calls of tools; InputError: one that does not go on behind a turn.
  GenerateSettings::Reply replies(std::vector<std::shared_ptr<const PromptChat>> chats) const;
  /// Most tokens that it puts into one text, enough for one full answer a round: for GenerateSettings::reply_tokens.
  std::int64_t reply_tokens() const;
  /// Written text belongs to these: host and limits.
  std::string fingerprint() const;
  const ToolHost& host() const { return *host_; }

 private:
  struct State {
    std::vector<ChatMessage> messages;
    ToolCallFormat format;
    std::int64_t rounds = 0;
  };
  std::vector<std::int32_t> reply(const PromptChat& chat, State& state, const Completion& text) const;
  std::string answer(const WrittenCall& call, std::size_t index) const;
  std::string shortened(const std::string& answer) const;
  std::vector<std::int32_t> behind_turn(const PromptChat& chat, std::span<const ChatMessage> messages,
                                        std::size_t called) const;

  Tokenizer tokenizer_;
  std::shared_ptr<ToolHost> host_;
  std::vector<std::int32_t> stop_ids_;
  ToolLimits limits_;
};

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/rollout/tool_turns_inl.hpp"
#endif

#endif
