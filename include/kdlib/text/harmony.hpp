// SPDX-License-Identifier: Apache-2.0
// Harmony, the message format of gpt-oss: its tokens, a checker that says what is wrong in a stream of messages and
// where, and masks for training. A message has this form:
//   <|start|>ROLE[ to=RECIPIENT][<|channel|>CHANNEL[ to=RECIPIENT]][ CONTENT_TYPE]<|message|>CONTENT TERMINATOR
// ChatTemplate::harmony() (chat_template.hpp) writes this format.
#ifndef KDLIB_TEXT_HARMONY_HPP
#define KDLIB_TEXT_HARMONY_HPP

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "kdlib/text/byte_level_bpe.hpp"
#include "kdlib/text/chat_mask.hpp"
#include "kdlib/text/chat_message.hpp"

KDLIB_NAMESPACE_BEGIN

/// The ids of the tokens that frame messages.
struct HarmonyTokens {
  std::int32_t start, message, channel, constrain, end, call, ret;  // ret: <|return|>
  std::int32_t end_of_text, start_of_text;  // <|endoftext|>, <|startoftext|>; -1: the tokenizer has none
  /// Reads the ids from a tokenizer. InputError names the tokens that the tokenizer lacks.
  static HarmonyTokens of(const Tokenizer& tokenizer);
};

/// The kinds of errors in a stream of messages.
enum class HarmonyCode : std::uint8_t {
  none,
  start,    // E_START: something other than <|start|> stands between messages
  header,   // E_HEADER: a header without <|message|>, with a second <|channel|> or <|constrain|>, with another special
            // token, or with words that have no meaning
  role,     // E_ROLE: no role, or an unknown role without to=
  channel,  // E_CHANNEL: a channel that is empty or unknown, that is missing (assistant), or that is not allowed
            // (system, developer, user)
  recipient,  // E_RECIPIENT: two recipients, an empty one, one on channel final or on a message of system, developer or
              // user, or a tool's message whose recipient is not the assistant
  term,       // E_TERM: a message ends with the wrong one of <|end|>, <|return|> and <|call|>
  order,   // E_ORDER: a second or late system message, a developer message after a user's; in reasoning rows anything
           // but analysis and then one final message
  trunc,   // E_TRUNC: the ids end inside a message
  eod,     // E_EOD: <|endoftext|> before the end, or <|startoftext|> anywhere
  content  // E_CONTENT: a special token inside a content
};
std::string_view harmony_code_name(HarmonyCode code);  // "E_START"; "" for none

/// One violation that check_harmony found.
struct HarmonyProblem {
  HarmonyCode code = HarmonyCode::none;
  std::size_t position = 0;  // index into the ids; the number of ids stands for their end
  std::size_t byte = 0;      // offset of this token in the bytes of the ids
  std::string expected, found;
  std::string text() const;  // "E_TRUNC at token 5 (byte 28): expected <|end|>, ...; found the end of the ids"
};

/// The token that ends a message: <|end|>, <|return|> or <|call|>.
enum class HarmonyTerminator : std::uint8_t { none, end, ret, call };

/// One message that check_harmony read, with its place in the ids.
struct HarmonyMessage {
  std::string role;  // system, developer, user, assistant or tool
  std::string name;  // full name of a tool, or the name behind the colon of role:name
  std::string channel, recipient, content_type;
  std::string content;  // the exact bytes; special tokens in a content are written out
  HarmonyTerminator terminator = HarmonyTerminator::none;
  std::size_t begin = 0, content_begin = 0, content_end = 0, end = 0;  // indices into the ids
  bool has_message_token = false;
};

/// What check_harmony allows and requires.
struct HarmonyCheckOptions {
  bool completion = false;  // true: the ids continue a prompt that ends with <|start|>assistant
  /// True: the last message may be cut off, and in a header without <|message|> the surplus words are read as the
  /// content.
  bool lenient = false;
  /// True: the assistant must write one or more analysis messages and then, at the very end, one final message. None of
  /// them may be empty.
  bool reasoning_row = false;
  /// True: special tokens in a content are allowed, as in openai-harmony; only <|end|>, <|return|> and <|call|> end a
  /// content.
  bool special_in_content = false;
  bool whole_contents = true;  // false: the report holds each content only up to its first token that is not white
                               // space. This saves most of the time; the problems found are the same
};

/// The result of a check, for rows of data and for judging what a model wrote.
struct HarmonyReport {
  bool ok = true;
  std::vector<HarmonyMessage> messages;
  std::vector<HarmonyProblem> problems;  // sorted by position
  bool has_analysis = false, has_final = false;
  std::string analysis_text;  // of the assistant's analysis messages without a recipient, in separate lines
  std::string final_text;     // of the assistant's last message on channel final
  enum class Stop : std::uint8_t { ret, call, length } stop = Stop::length;  // how the ids end
  HarmonyCode first_error() const;
  std::optional<std::size_t> error_position() const;
};

/// Checks a stream of ids. What the ids contain never causes an exception. InputError: the tokenizer has no Harmony
/// tokens.
HarmonyReport check_harmony(const Tokenizer& tokenizer, std::span<const std::int32_t> ids,
                            const HarmonyCheckOptions& options = {});
/// Checks a text. The names of special tokens in the text are read as special tokens.
HarmonyReport check_harmony(const Tokenizer& tokenizer, std::string_view text, const HarmonyCheckOptions& options = {});

/// Returns the messages of a stream without problems. FormatError "[harmony] SOURCE: E_TRUNC at token 5 ..." names the
/// first problem.
std::vector<HarmonyMessage> parse_harmony(const Tokenizer& tokenizer, std::span<const std::int32_t> ids,
                                          std::string_view source, const HarmonyCheckOptions& options = {});

/// Converts a message so that ChatTemplate::harmony() can write it again.
ChatMessage chat_message_of(const HarmonyMessage& message);

/// Masks with one value for each token. loss[i] is 1 if token i is a token that the model should write: messages of the
/// assistant count, with header and terminator unless ChatMask excludes these. span[i] is 1 in the content of the
/// assistant's analysis messages (without a recipient), 2 in the content of its final messages, and 0 elsewhere. Ids
/// that break the rules are read as far as possible.
struct HarmonyMasks {
  std::vector<std::uint8_t> loss, span;
};
HarmonyMasks harmony_masks(const Tokenizer& tokenizer, std::span<const std::int32_t> ids, ChatMask mask = {});

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/text/harmony_inl.hpp"
#endif

#endif
