// SPDX-License-Identifier: Apache-2.0
// Text of several turns: after the model has called tools, their answers are put behind its words, and the model
// continues.
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

/// Limits of ToolTurns.
struct ToolLimits {
  std::int64_t rounds = 4;           // turns with calls that are answered; a later one ends the text
  std::int64_t answer_tokens = 256;  // tokens of one answer; a longer one is cut and ends with " [...]"
  std::int64_t calls = 8;            // calls of one turn; later calls are answered by an error text
  double seconds = 10;               // time for one answer, > 0
};

/// Answers the tool calls of many texts. What is put behind a turn is what the chat template writes between that turn
/// and the next generation prompt: the tools' answers in the form of the template. The model's own words are never
/// rendered again. A prompt that is not a conversation gets no answers, so its text has one turn.
class ToolTurns {
 public:
  /// `stop_ids` are those of the sampler: a turn ends with one of them. Throws ConfigError for limits that are not
  /// positive.
  ToolTurns(Tokenizer tokenizer, std::shared_ptr<ToolHost> host, std::vector<std::int32_t> stop_ids,
            ToolLimits limits = {});

  /// Makes GenerateSettings::reply. `chats` are the conversations of the requests, nullptr for a prompt without one.
  /// Throws ConfigError for a chat template without calls of tools. The reply throws InputError if the template does
  /// not continue after a turn with calls.
  GenerateSettings::Reply replies(std::vector<std::shared_ptr<const PromptChat>> chats) const;
  /// Largest number of tokens that is put into one text, enough for one full answer a round: for
  /// GenerateSettings::reply_tokens.
  std::int64_t reply_tokens() const;
  /// Returns a text that identifies host and limits. Written text is only used with the same ones.
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
