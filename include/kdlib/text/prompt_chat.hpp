// SPDX-License-Identifier: Apache-2.0
// The conversation from which a prompt was rendered, for text that continues after an answer (calls of tools).
#ifndef KDLIB_TEXT_PROMPT_CHAT_HPP
#define KDLIB_TEXT_PROMPT_CHAT_HPP

#include <memory>
#include <vector>

#include "kdlib/text/chat_template.hpp"

KDLIB_NAMESPACE_BEGIN

/// A conversation together with the options and the template that turned it into a prompt.
struct PromptChat {
  std::shared_ptr<const ChatTemplate> chat;
  std::vector<ChatMessage> messages;
  RenderOptions options;  // these include the tools that the template was given
};

KDLIB_NAMESPACE_END

#endif
