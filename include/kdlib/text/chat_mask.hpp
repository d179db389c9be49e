// SPDX-License-Identifier: Apache-2.0
// Chooses the tokens of a conversation that a loss counts.
#ifndef KDLIB_TEXT_CHAT_MASK_HPP
#define KDLIB_TEXT_CHAT_MASK_HPP

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN

/// Chooses which tokens of an assistant turn count in the loss. In ChatML <|im_start|> and the role never count.
struct ChatMask {
  bool header = false;               // ChatML: the newline behind <|im_start|>assistant
  bool end_of_turn = true;           // <|im_end|>; Harmony: <|end|>, <|return|>, <|call|>
  bool trailing_newline = false;     // ChatML: the newline behind <|im_end|>
  bool harmony_header = true;        // the whole of <|start|>assistant<|channel|>...<|message|>
  bool harmony_first_header = true;  // false: leaves out the <|start|>assistant that a prompt already contains
  bool tool_text = false;            // answers of tools, too (only for templates of files: contents of role tool)
};

KDLIB_NAMESPACE_END

#endif
