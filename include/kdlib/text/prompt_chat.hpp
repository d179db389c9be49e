// SPDX-License-Identifier: Apache-2.0
// The conversation that a prompt was rendered from, for text that goes on after an answer (tools).
#ifndef KDLIB_TEXT_PROMPT_CHAT_HPP
#define KDLIB_TEXT_PROMPT_CHAT_HPP

#include <memory>
#include <vector>

#include "kdlib/text/chat_template.hpp"

KDLIB_NAMESPACE_BEGIN

/// A conversation, how it was written out, and by which template.
struct PromptChat {
  std::shared_ptr<const ChatTemplate> chat;
  std::vector<ChatMessage> messages;
  RenderOptions options;  // with the tools that the template was given
};

KDLIB_NAMESPACE_END

#endif
