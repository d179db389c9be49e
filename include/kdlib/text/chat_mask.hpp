// SPDX-License-Identifier: Apache-2.0
// Which tokens of a conversation a loss counts.
#ifndef KDLIB_TEXT_CHAT_MASK_HPP
#define KDLIB_TEXT_CHAT_MASK_HPP

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN

/// Which tokens of an assistant turn count in the loss. In ChatML <|im_start|> and the role never do.
struct ChatMask {
  bool header = false;               // ChatML: the newline behind <|im_start|>assistant
  bool end_of_turn = true;           // <|im_end|>; Harmony: <|end|>, <|return|>, <|call|>
  bool trailing_newline = false;     // ChatML: the newline behind <|im_end|>
  bool harmony_header = true;        // all of <|start|>assistant<|channel|>...<|message|>
  bool harmony_first_header = true;  // false: not the <|start|>assistant that a prompt gives
  bool tool_text = false;            // what tools answered, too (templates of files; contents of role tool)
};

KDLIB_NAMESPACE_END

#endif
