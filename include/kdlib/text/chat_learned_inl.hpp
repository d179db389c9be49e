// SPDX-License-Identifier: Apache-2.0
// Which part of a rendered conversation the assistant wrote.
#ifndef KDLIB_TEXT_CHAT_LEARNED_INL_HPP
#define KDLIB_TEXT_CHAT_LEARNED_INL_HPP

#include <algorithm>
#include <charconv>

#include "kdlib/text/chat_jinja.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Characters of the private use area that none of the texts holds: a text of one character each.
KDLIB_FUNC std::vector<std::string> unused_marks(std::span<const std::string_view> texts, std::size_t count) {
  std::vector<std::string> out;
  for (char32_t c = 0xE000; c < 0xF900 && out.size() < count; ++c) {
    std::string mark;
    append_utf8(mark, c);
    const auto holds = [&](std::string_view text) { return text.find(mark) != text.npos; };
    if (std::none_of(texts.begin(), texts.end(), holds)) out.push_back(std::move(mark));
  }
  require<InputError>(out.size() == count, "[chat template] a conversation uses all private-use characters");
  return out;
}

/// Where marks stood in `marked`, by number: [0] those of `open`, [1] those of `close`. `plain` gets the text without.
class MarkReader {
 public:
  MarkReader(std::string_view open, std::string_view close, std::size_t count) : marks_{open, close}, found_(count) {}

  bool read(std::string_view marked, std::string_view plain) {
    std::string text;
    for (std::size_t at = 0; at < marked.size();) {
      if (mark(marked, at, text.size())) continue;
      text += marked[at++];
    }
    return text == plain;
  }

  const ContentPlace& place(std::size_t i) const { return found_[i]; }

 private:
  /// A mark, its number and the mark again.
  bool mark(std::string_view text, std::size_t& at, std::size_t place) {
    for (unsigned kind = 0; kind < 2; ++kind) {
      const std::string_view mark = marks_[kind];
      if (text.compare(at, mark.size(), mark) != 0) continue;
      std::size_t number = 0;
      const char* begin = text.data() + at + mark.size();
      const auto [end, ec] = std::from_chars(begin, text.data() + text.size(), number);
      const std::size_t behind = static_cast<std::size_t>(end - text.data());
      if (ec != std::errc() || end == begin || number >= found_.size() || text.compare(behind, mark.size(), mark) != 0)
        continue;
      (kind == 0 ? found_[number].begin : found_[number].end) = place;
      at = behind + mark.size();
      return true;
    }
    return false;
  }

  std::string_view marks_[2];
  std::vector<ContentPlace> found_;
};

KDLIB_FUNC std::vector<ContentPlace> JinjaChat::contents(std::span<const ChatMessage> messages,
                                                         const RenderOptions& options, std::string_view text,
                                                         std::string_view role) const {
  std::vector<std::string_view> texts{text};
  for (const ChatMessage& m : messages) texts.push_back(m.content);
  const std::vector<std::string> marks = unused_marks(texts, 2);
  std::vector<ChatMessage> marked(messages.begin(), messages.end());
  std::vector<std::size_t> owner;  // message of each number
  for (std::size_t i = 0; i < marked.size(); ++i) {
    ChatMessage& m = marked[i];
    if (m.role != role || (!options.join_parts && m.source.find("content").value_or(Json()).is_array())) continue;
    const std::string_view core = strip(m.content);
    if (core.empty()) continue;
    const auto at = static_cast<std::size_t>(core.data() - m.content.data());
    const std::string number = std::to_string(owner.size());
    m.content = concat(m.content.substr(0, at), marks[0], number, marks[0], core, marks[1], number, marks[1],
                       m.content.substr(at + core.size()));
    owner.push_back(i);
  }
  std::vector<ContentPlace> out(messages.size());
  if (owner.empty()) return out;
  const auto again = attempt(marked, options);
  MarkReader reader(marks[0], marks[1], owner.size());
  if (!again || !reader.read(*again, text)) return out;
  for (std::size_t i = 0; i < owner.size(); ++i) out[owner[i]] = reader.place(i);
  return out;
}

KDLIB_FUNC bool begins_with(std::string_view text, std::string_view front) {
  return text.substr(0, front.size()) == front;
}

/// The end of an end token that stands at `at`, perhaps behind white space; `at` if there is none.
KDLIB_FUNC std::size_t behind_end_token(std::string_view text, std::size_t at, std::span<const std::string> ends) {
  const std::size_t token = text.size() - strip(text.substr(at), Sides::left).size();
  std::size_t longest = 0;
  for (const std::size_t place : {at, token})  // an end token may begin with white space itself
    for (const std::string& end : ends)
      if (!end.empty() && text.compare(place, end.size(), end) == 0) longest = std::max(longest, place + end.size());
  return longest > 0 ? longest : at;
}

/// Where the thought of a message begins if it stands in front of its content, else where the content does.
KDLIB_FUNC std::size_t thought_begin(const ChatMessage& m, std::string_view text, std::size_t content) {
  const std::string_view thought = m.reasoning ? strip(*m.reasoning) : std::string_view();
  if (thought.empty() || content < thought.size()) return content;
  const std::size_t at = text.rfind(thought, content - thought.size());
  return at == text.npos ? content : at;
}

KDLIB_FUNC std::optional<std::size_t> JinjaChat::opening(std::span<const ChatMessage> messages, std::size_t i,
                                                         const RenderOptions& options, std::string_view text,
                                                         std::size_t limit) const {
  if (i == 0) return std::nullopt;
  RenderOptions prompt = options;
  prompt.add_generation_prompt = true;
  for (const bool thinking : {options.enable_thinking, true}) {
    prompt.enable_thinking = thinking;
    const auto before = attempt(messages.first(i), prompt);
    if (before && before->size() <= limit && begins_with(text, *before)) return before->size();
  }
  const std::string_view texts[] = {text};
  const std::string mark = unused_marks(texts, 1)[0];
  std::vector<ChatMessage> answered(messages.begin(), messages.begin() + static_cast<std::ptrdiff_t>(i));
  answered.push_back({"assistant", mark});
  prompt.add_generation_prompt = false;
  const auto answer = attempt(answered, prompt);
  const std::size_t at = answer ? answer->find(mark) : text.npos;
  if (at == text.npos || at > limit || text.substr(0, at) != std::string_view(*answer).substr(0, at))
    return std::nullopt;
  return at;
}

KDLIB_FUNC std::optional<std::size_t> JinjaChat::next_end(std::span<const ChatMessage> messages, std::size_t i,
                                                          const RenderOptions& options, std::string_view text,
                                                          std::size_t begin, const TurnEnds& ends) const {
  std::size_t limit = text.size(), next = i + 1;
  while (next < messages.size() && messages[next].role != "assistant") ++next;
  if (next < messages.size()) {
    const auto before = opening(messages, next, options, text, text.size());
    if (!before) return std::nullopt;
    limit = *before;
  }
  std::size_t found = text.npos;
  for (const std::string& end : ends.stop) {
    if (end.empty()) continue;
    for (std::size_t m = i; m < next; ++m) {
      bool spelt = messages[m].content.find(end) != std::string::npos;
      for (const ToolCall& call : messages[m].tool_calls)
        spelt = spelt || call.arguments.find(end) != std::string::npos;
      if (spelt) return std::nullopt;
    }
    if (const std::size_t at = text.find(end, begin); at != text.npos && at + end.size() <= limit)
      found = std::min(found, at + end.size());
  }
  return found == text.npos ? std::nullopt : std::optional(found);
}

/// The end without an end token that stands there.
KDLIB_FUNC std::size_t before_end_token(std::string_view text, TextSpan span, const TurnEnds& ends) {
  for (const std::string& end : ends.stop)
    if (span.end - span.begin >= end.size() && text.substr(span.end - end.size(), end.size()) == end)
      return span.end - end.size();
  return span.end;
}

KDLIB_FUNC std::optional<TextSpan> JinjaChat::turn(std::span<const ChatMessage> messages, std::size_t i,
                                                   const RenderOptions& options, std::string_view text,
                                                   const ContentPlace& content, const ChatMask& mask,
                                                   const TurnEnds& ends) const {
  RenderOptions closed = options;
  closed.add_generation_prompt = false;
  const std::size_t first = std::min(content.begin.value_or(text.npos), content.end.value_or(text.npos));
  const std::optional<std::size_t> opened = opening(messages, i, options, text, first);
  const auto alone = [&]() -> std::size_t {  // bytes of the conversation that ends with this turn, 0 if it is no prefix
    const std::optional<std::string> after = attempt(messages.first(i + 1), closed);
    return after && begins_with(text, *after) ? after->size() : 0;
  };
  if (content.end && (content.whole() || opened) && messages[i].tool_calls.empty()) {
    TextSpan out{opened ? *opened : thought_begin(messages[i], text, *content.begin), *content.end};
    if (!mask.end_of_turn) return out;
    out.end = behind_end_token(text, *content.end, ends.stop);
    if (out.end > *content.end) return out;
    if (const std::size_t size = alone(); size > *content.end)
      out.end = behind_end_token(text.substr(0, size), *content.end, ends.special);
    return out;
  }
  if (!opened) return std::nullopt;
  TextSpan out{*opened, alone()};
  if (out.end < out.begin) {
    const auto end = next_end(messages, i, options, text, out.begin, ends);
    if (!end) return std::nullopt;
    out.end = *end;
  }
  // White space behind the end of the turn is written by the template, not by the model.
  if (!mask.trailing_newline)
    out.end = out.begin + strip(text.substr(out.begin, out.end - out.begin), Sides::right).size();
  if (!mask.end_of_turn) out.end = before_end_token(text, out, ends);
  return out;
}

KDLIB_FUNC std::optional<std::string> JinjaChat::closing_token(const RenderOptions& options,
                                                               std::span<const std::string> special) const {
  const std::string mark = "\xEE\x80\x80";  // U+E000
  RenderOptions closed = options;
  closed.add_generation_prompt = false;
  const auto text = attempt(std::vector<ChatMessage>{{"user", "?"}, {"assistant", mark}}, closed);
  const std::size_t at = text ? text->find(mark) : std::string::npos;
  if (at == std::string::npos) return std::nullopt;
  const std::string_view behind = strip(std::string_view(*text).substr(at + mark.size()), Sides::left);
  std::optional<std::string> longest;
  for (const std::string& token : special)
    if (begins_with(behind, token) && (!longest || token.size() > longest->size())) longest = token;
  return longest;
}

KDLIB_FUNC std::vector<TextSpan> JinjaChat::learned(std::span<const ChatMessage> messages, const RenderOptions& options,
                                                    const JinjaOutput& output, const ChatMask& mask,
                                                    const TurnEnds& ends) const {
  std::vector<TextSpan> out;
  const std::string_view text = output.text;
  if (mask.tool_text)
    for (const ContentPlace& place : contents(messages, options, text, "tool"))
      if (const auto span = place.whole()) out.push_back(*span);
  if (chosen(options).has_generation()) {
    for (const auto& [begin, end] : output.generation) out.push_back({begin, std::min(end, text.size())});
    return out;
  }
  const auto found = contents(messages, options, text, "assistant");
  TurnEnds all = ends;
  if (auto token = closing_token(options, ends.special)) all.stop.push_back(std::move(*token));
  for (std::size_t i = 0; i < messages.size(); ++i) {
    const ChatMessage& m = messages[i];
    if (m.role != "assistant") continue;
    if (const auto span = turn(messages, i, options, text, found[i], mask, all)) {
      if (span->end > span->begin) out.push_back(*span);
      continue;
    }
    const bool blank = strip(m.content).empty() && m.tool_calls.empty() && !m.reasoning;
    require<InputError>(blank, "[chat template] ", chosen(options).name(), ": what the assistant wrote in message ",
                        i + 1, " of ", messages.size(),
                        " cannot be found in the rendered text; give a template with {% generation %} tags (--template "
                        "FILE), or ids with their loss_mask");
  }
  return out;
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
