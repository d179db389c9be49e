// SPDX-License-Identifier: Apache-2.0
// Conversations through a Jinja template: what the template is given, and what in its text the assistant wrote.
#ifndef KDLIB_TEXT_CHAT_JINJA_HPP
#define KDLIB_TEXT_CHAT_JINJA_HPP

#include <cstddef>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "kdlib/text/added_token_matcher.hpp"
#include "kdlib/text/added_tokens.hpp"
#include "kdlib/text/chat_mask.hpp"
#include "kdlib/text/chat_message.hpp"
#include "kdlib/text/chat_options.hpp"
#include "kdlib/text/jinja.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// [begin, end) in bytes.
struct TextSpan {
  std::size_t begin = 0, end = 0;
  bool operator==(const TextSpan&) const = default;
};

/// Where a message's content was found in a text: both of its ends, or one where the template drops a part.
struct ContentPlace {
  std::optional<std::size_t> begin, end;
  std::optional<TextSpan> whole() const {
    if (!begin || !end || *begin > *end) return std::nullopt;
    return TextSpan{*begin, *end};
  }
};

/// Breaks the names of added tokens that stand in the words of a conversation by a character after their first one, so
/// that the tokens which the template writes can be told from those that the words spell.
class TokenGuard {
 public:
  /// `mark`: UTF-8 of a character that is not in the conversation. `plain`: all added tokens, not only special ones.
  TokenGuard(std::span<const AddedToken> tokens, bool plain, std::string mark);
  /// The text with marks, or nothing where it names no token.
  std::optional<std::string> broken(std::string_view text) const;
  bool empty() const { return matcher_.empty(); }
  const std::string& mark() const { return mark_; }

 private:
  AddedTokenMatcher matcher_;
  std::string mark_;
};

/// Texts of tokens that may close a turn.
struct TurnEnds {
  std::vector<std::string> stop;     // those that end an answer
  std::vector<std::string> special;  // all special tokens: taken where the turn alone ends with one
};

class JinjaChat {
 public:
  /// `named`: templates that are chosen by a name, such as "tool_use" if tools are given. `tokens`: bos_token and so on
  /// with their texts.
  JinjaChat(std::optional<JinjaTemplate> standard, std::vector<std::pair<std::string, JinjaTemplate>> named,
            std::vector<std::pair<std::string, std::string>> tokens)
      : standard_(std::move(standard)), named_(std::move(named)), tokens_(std::move(tokens)) {}

  const JinjaTemplate& chosen(const RenderOptions& options) const;
  /// True if one of the templates holds that word.
  bool mentions(std::string_view word) const;
  /// False where the template prints contents in parts as a list, or fails.
  bool takes_parts(const RenderOptions& options) const;

  /// The text, and in `generation` what {% generation %} blocks printed.
  JinjaOutput render(std::span<const ChatMessage> messages, const RenderOptions& options,
                     const TokenGuard* guard = nullptr) const;

  /// Where each message's content of that role stands in `text`, without outer white space; nothing for blank contents,
  /// parts, and ends that the template does not print. Two private-use characters that are not in
  /// `text` mark the contents in a second rendering, which must be `text` without them.
  std::vector<ContentPlace> contents(std::span<const ChatMessage> messages, const RenderOptions& options,
                                     std::string_view text, std::string_view role) const;

  /// What the assistant wrote (and tools, if `mask` says so): generation blocks; else contents and, where the template
  /// renders the turns before as the same text, what stands between the generation prompt and the content (a thought);
  /// else the difference that the turn makes, or what stands from the prompt to the next end token. A token of `ends`
  /// behind it belongs to it. InputError naming turn and
  /// template where none of it holds.
  std::vector<TextSpan> learned(std::span<const ChatMessage> messages, const RenderOptions& options,
                                const JinjaOutput& output, const ChatMask& mask, const TurnEnds& ends) const;

 private:
  JinjaOutput run(std::span<const ChatMessage> messages, const RenderOptions& options, const TokenGuard* guard) const;
  JinjaOutput continued(std::span<const ChatMessage> messages, const RenderOptions& options,
                        const TokenGuard* guard) const;
  /// Bytes of a system turn at the front that the template adds by itself.
  std::size_t default_system(std::span<const ChatMessage> messages, const RenderOptions& options,
                             const TokenGuard* guard, std::string_view text) const;
  /// The rendering, or nothing where the template refuses.
  std::optional<std::string> attempt(std::span<const ChatMessage> messages, const RenderOptions& options,
                                     const TokenGuard* guard = nullptr) const;
  std::optional<TextSpan> turn(std::span<const ChatMessage> messages, std::size_t i, const RenderOptions& options,
                               std::string_view text, const ContentPlace& content, const ChatMask& mask,
                               const TurnEnds& ends) const;
  /// Bytes of `text` in front of what the assistant wrote in message `i`, at most `limit`: the turns before with the
  /// generation prompt, or with the opening of an answer where the prompt holds more (an opened thought).
  std::optional<std::size_t> opening(std::span<const ChatMessage> messages, std::size_t i, const RenderOptions& options,
                                     std::string_view text, std::size_t limit) const;
  /// The special token with which the template closes an answer at the end of a conversation: the tokenizer's files may
  /// not name it.
  std::optional<std::string> closing_token(const RenderOptions& options, std::span<const std::string> special) const;
  /// The first end token behind `begin` if it must belong to message `i`: none of the messages up to the next answer
  /// spells one, and it stands before that answer's prompt.
  std::optional<std::size_t> next_end(std::span<const ChatMessage> messages, std::size_t i,
                                      const RenderOptions& options, std::string_view text, std::size_t begin,
                                      const TurnEnds& ends) const;

  std::optional<JinjaTemplate> standard_;
  std::vector<std::pair<std::string, JinjaTemplate>> named_;
  std::vector<std::pair<std::string, std::string>> tokens_;
};

}  // namespace detail
KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/text/chat_jinja_inl.hpp"
#include "kdlib/text/chat_learned_inl.hpp"
#endif

#endif
