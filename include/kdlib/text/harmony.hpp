// SPDX-License-Identifier: Apache-2.0
// Harmony, the message format of gpt-oss: its tokens, a checker that names what is wrong and where, and masks for
// training.
//   <|start|>ROLE[ to=RECIPIENT][<|channel|>CHANNEL[ to=RECIPIENT]][ CONTENT_TYPE]<|message|>CONTENT TERMINATOR
// ChatTemplate::harmony() (chat_template.hpp) writes it.
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

/// Ids of the framing tokens.
struct HarmonyTokens {
  std::int32_t start, message, channel, constrain, end, call, ret;  // ret: <|return|>
  std::int32_t end_of_text, start_of_text;  // <|endoftext|>, <|startoftext|>; -1: the tokenizer has none
  /// InputError naming the tokens that are missing.
  static HarmonyTokens of(const Tokenizer& tokenizer);
};

/// What can be wrong with a stream of messages.
enum class HarmonyCode : std::uint8_t {
  none,
  start,      // E_START: something else than <|start|> between messages
  header,     // E_HEADER: no <|message|>, a second <|channel|> or <|constrain|>, another special token, words that mean
              // nothing
  role,       // E_ROLE: no role, or an unknown one without to=
  channel,    // E_CHANNEL: empty, missing (assistant), unknown, or where none belongs (system, developer, user)
  recipient,  // E_RECIPIENT: two, an empty one, on final, on system, developer or user; a tool's that is not the
              // assistant
  term,       // E_TERM: the wrong one of <|end|>, <|return|> and <|call|>
  order,      // E_ORDER: a second or late system, developer after user; reasoning rows: not analysis, then one final
  trunc,      // E_TRUNC: the ids end inside a message
  eod,        // E_EOD: <|endoftext|> before the end, <|startoftext|> anywhere
  content     // E_CONTENT: a special token inside a content
};
std::string_view harmony_code_name(HarmonyCode code);  // "E_START"; "" for none

/// The first violation that check_harmony found.
struct HarmonyProblem {
  HarmonyCode code = HarmonyCode::none;
  std::size_t position = 0;  // index into the ids; their number: at the end
  std::size_t byte = 0;      // offset of that token in the text of the ids
  std::string expected, found;
  std::string text() const;  // "E_TRUNC at token 5 (byte 28): expected <|end|>, ..., found the end of the ids"
};

/// The token that ends a message: <|end|>, <|return|> or <|call|>.
enum class HarmonyTerminator : std::uint8_t { none, end, ret, call };

/// One message that check_harmony read, with its place.
struct HarmonyMessage {
  std::string role;  // system, developer, user, assistant, tool
  std::string name;  // a tool's full name, or what stands behind the colon of role:name
  std::string channel, recipient, content_type;
  std::string content;  // bytes as they are; special tokens inside are written out
  HarmonyTerminator terminator = HarmonyTerminator::none;
  std::size_t begin = 0, content_begin = 0, content_end = 0, end = 0;  // indices into the ids
  bool has_message_token = false;
};

/// What check_harmony allows and asks for.
struct HarmonyCheckOptions {
  bool completion = false;  // the ids go on behind a prompt's <|start|>assistant
  bool lenient =
      false;  // the last message may break off, and a header without <|message|> has its surplus words as content
  bool reasoning_row =
      false;  // the assistant's messages must be analysis (one or more, not empty), then one final (not empty), last
  bool special_in_content =
      false;  // allowed, as openai-harmony allows it: a content ends with <|end|>, <|return|> or <|call|> only
  bool whole_contents = true;  // false: the report holds contents up to their first token that is not white space,
                               // which saves most of the time; the problems are the same
};

/// What a check found: for data rows, and for judging rollouts.
struct HarmonyReport {
  bool ok = true;
  std::vector<HarmonyMessage> messages;
  std::vector<HarmonyProblem> problems;  // by position
  bool has_analysis = false, has_final = false;
  std::string analysis_text;  // of all messages on analysis, one below the other
  std::string final_text;     // of the last message on final
  enum class Stop : std::uint8_t { ret, call, length } stop = Stop::length;  // how the ids end
  HarmonyCode first_error() const;
  std::optional<std::size_t> error_position() const;
};

/// Checks a stream of ids. Never throws for what the ids hold; InputError when the tokenizer has no Harmony tokens.
HarmonyReport check_harmony(const Tokenizer& tokenizer, std::span<const std::int32_t> ids,
                            const HarmonyCheckOptions& options = {});
/// The same of a text, its special tokens read as such.
HarmonyReport check_harmony(const Tokenizer& tokenizer, std::string_view text, const HarmonyCheckOptions& options = {});

/// The messages of a stream that is in order; FormatError "[harmony] SOURCE: E_TRUNC at token 5 ..." for the first
/// problem.
std::vector<HarmonyMessage> parse_harmony(const Tokenizer& tokenizer, std::span<const std::int32_t> ids,
                                          std::string_view source, const HarmonyCheckOptions& options = {});

/// As something ChatTemplate::harmony() writes again.
ChatMessage chat_message_of(const HarmonyMessage& message);

/// Token-aligned: loss[i] is 1 where token i is something the model should have written, span[i] is 1 in the content of
/// analysis and 2 in that of final. Messages of the assistant count, header and terminator included (ChatMask says
/// otherwise); ids that break the rules are read as far as they go.
struct HarmonyMasks {
  std::vector<std::uint8_t> loss, span;
};
HarmonyMasks harmony_masks(const Tokenizer& tokenizer, std::span<const std::int32_t> ids, ChatMask mask = {});

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/text/harmony_inl.hpp"
#endif

#endif
