// SPDX-License-Identifier: Apache-2.0
// Renders conversations with a Jinja template: gives the template its variables, and finds the parts of the text that
// the assistant wrote.
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

/// A part [begin, end) of a text, in bytes.
struct TextSpan {
  std::size_t begin = 0, end = 0;
  bool operator==(const TextSpan&) const = default;
};

/// Where the content of a message was found in a text: both ends of the content, or only one if the template drops a
/// part of the content.
struct ContentPlace {
  std::optional<std::size_t> begin, end;
  std::optional<TextSpan> whole() const {
    if (!begin || !end || *begin > *end) return std::nullopt;
    return TextSpan{*begin, *end};
  }
};

/// Marks the names of added tokens that occur in the words of a conversation: a mark is inserted after the first
/// character of each name. In this way tokens that the template writes can be told from names that the words only
/// spell.
class TokenGuard {
 public:
  /// `mark` is the UTF-8 of a character that does not occur in the conversation. `plain`: true marks all added tokens,
  /// false only special ones.
  TokenGuard(std::span<const AddedToken> tokens, bool plain, std::string mark);
  /// Returns the text with marks, or nothing if the text names no token.
  std::optional<std::string> broken(std::string_view text) const;
  bool empty() const { return matcher_.empty(); }
  const std::string& mark() const { return mark_; }

 private:
  AddedTokenMatcher matcher_;
  std::string mark_;
};

/// The texts of tokens that may close a turn.
struct TurnEnds {
  std::vector<std::string> stop;     // tokens that end an answer
  std::vector<std::string> special;  // all special tokens; one counts only if the turn alone ends with it
};

class JinjaChat {
 public:
  /// `standard` is the default template. `named` are templates that are chosen by their names, such as "tool_use" if
  /// tools are given. `tokens` are the variables bos_token, eos_token and so on with their texts.
  JinjaChat(std::optional<JinjaTemplate> standard, std::vector<std::pair<std::string, JinjaTemplate>> named,
            std::vector<std::pair<std::string, std::string>> tokens)
      : standard_(std::move(standard)), named_(std::move(named)), tokens_(std::move(tokens)) {}

  const JinjaTemplate& chosen(const RenderOptions& options) const;
  /// True if the source of one of the templates contains this word.
  bool mentions(std::string_view word) const;
  /// Returns false if the template prints a content in parts as a list or fails on it.
  bool takes_parts(const RenderOptions& options) const;

  /// Returns the rendered text and, in `generation`, the parts that {% generation %} blocks printed.
  JinjaOutput render(std::span<const ChatMessage> messages, const RenderOptions& options,
                     const TokenGuard* guard = nullptr) const;

  /// Finds the content of each message of the given role in `text`, without outer white space. Nothing is returned for
  /// blank contents, for contents in parts, and for ends that the template does not print. The function renders the
  /// conversation a second time with contents marked by two private-use characters that do not occur in `text`; without
  /// the marks this rendering must equal `text`.
  std::vector<ContentPlace> contents(std::span<const ChatMessage> messages, const RenderOptions& options,
                                     std::string_view text, std::string_view role) const;

  /// Returns the parts that the assistant wrote (and tools, if `mask` says so). If the template has generation blocks,
  /// these are the parts. Otherwise a part is the content of a message and, if the template renders the turns before as
  /// the same text, also what stands between the generation prompt and the content (a thought). If the content is not
  /// found, the part is what the turn adds to the text, or the text from the prompt to the next end token. A token of
  /// `ends` directly behind a part belongs to the part. InputError names turn and template if no rule applies.
  std::vector<TextSpan> learned(std::span<const ChatMessage> messages, const RenderOptions& options,
                                const JinjaOutput& output, const ChatMask& mask, const TurnEnds& ends) const;

 private:
  JinjaOutput run(std::span<const ChatMessage> messages, const RenderOptions& options, const TokenGuard* guard) const;
  JinjaOutput continued(std::span<const ChatMessage> messages, const RenderOptions& options,
                        const TokenGuard* guard) const;
  /// Returns the size in bytes of a system turn that the template itself adds at the front.
  std::size_t default_system(std::span<const ChatMessage> messages, const RenderOptions& options,
                             const TokenGuard* guard, std::string_view text) const;
  /// Returns the rendered text, or nothing if the template refuses the messages.
  std::optional<std::string> attempt(std::span<const ChatMessage> messages, const RenderOptions& options,
                                     const TokenGuard* guard = nullptr) const;
  std::optional<TextSpan> turn(std::span<const ChatMessage> messages, std::size_t i, const RenderOptions& options,
                               std::string_view text, const ContentPlace& content, const ChatMask& mask,
                               const TurnEnds& ends) const;
  /// Returns the number of bytes of `text`, at most `limit`, in front of what the assistant wrote in message `i`. This
  /// is the text of the turns before with the generation prompt. If the prompt holds more than that (an opened
  /// thought), the text with the opening of an answer is used instead.
  std::optional<std::size_t> opening(std::span<const ChatMessage> messages, std::size_t i, const RenderOptions& options,
                                     std::string_view text, std::size_t limit) const;
  /// Returns the special token with which the template closes an answer at the end of a conversation. The files of the
  /// tokenizer may not name this token.
  std::optional<std::string> closing_token(const RenderOptions& options, std::span<const std::string> special) const;
  /// Returns the end of the first end token behind `begin` if this token must belong to message `i`: no message up to
  /// the next answer spells an end token, and the token stands before the prompt of that answer.
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
