// SPDX-License-Identifier: Apache-2.0
// The ids of a text that a Jinja template printed, and which of them are learned.
#ifndef KDLIB_TEXT_CHAT_IDS_INL_HPP
#define KDLIB_TEXT_CHAT_IDS_INL_HPP

#include <algorithm>

#include "kdlib/text/byte_level_bpe.hpp"
#include "kdlib/text/chat_jinja.hpp"
#include "kdlib/text/nfc.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Where marks stood in a text (bytes of the text without them); nothing if it is another text without them.
KDLIB_FUNC std::optional<std::vector<std::size_t>> mark_places(std::string_view marked, std::string_view plain,
                                                               std::string_view mark) {
  std::vector<std::size_t> out;
  std::string text;
  for (std::size_t at = 0, next; at < marked.size(); at = next + mark.size()) {
    next = std::min(marked.find(mark, at), marked.size());
    text += marked.substr(at, next - at);
    if (next < marked.size()) out.push_back(text.size());
  }
  if (text != plain) return std::nullopt;
  return out;
}

/// Ids of a text in which the tokens at `places` (inside their names) are words. White space that a token swallows
/// goes.
KDLIB_FUNC std::vector<std::int32_t> encode_apart(const Tokenizer& tokenizer, std::string_view text,
                                                  std::span<const std::size_t> places, SpecialTokens content) {
  AddedTokenMatcher matcher;
  for (const AddedToken& token : tokenizer.added_tokens())
    if (!token.content.empty()) matcher.add(token.content, &token);
  matcher.finish();
  std::vector<std::int32_t> ids;
  std::size_t done = 0, place = 0;
  const auto words = [&](std::string_view gap) { tokenizer.encode_append(gap, ids, {content, false}); };
  for (std::size_t from = 0; from < text.size();) {
    const AddedTokenMatcher::Match match = matcher.find(text, from);
    if (match.token == nullptr) break;
    while (place < places.size() && places[place] <= match.begin) ++place;
    if (place < places.size() && places[place] < match.end) {
      from = places[place];  // behind the first character of a name that is only words
      continue;
    }
    std::string_view gap = text.substr(done, match.begin - done);
    if (match.token->lstrip) gap = strip(gap, Sides::right);
    words(gap);
    ids.push_back(match.token->id);
    from = done = match.end;
    if (match.token->rstrip) from = done = text.size() - strip(text.substr(done), Sides::left).size();
  }
  words(text.substr(done));
  return ids;
}

/// Which part of `text` each id stands for: the ids' bytes are looked for one behind the other. White space that added
/// tokens swallow, a space that the tokenizer adds in front and bytes without a token are stepped over.
KDLIB_FUNC std::vector<TextSpan> token_spans(const Tokenizer& tokenizer, std::string_view text,
                                             std::span<const std::int32_t> ids) {
  constexpr std::size_t reach = 64;  // bytes that may be stepped over
  std::vector<TextSpan> out;
  std::size_t at = 0;
  for (const std::int32_t id : ids) {
    std::string_view bytes = tokenizer.token_bytes(id);
    std::size_t found = at;
    if (text.compare(at, bytes.size(), bytes) != 0) {
      found = text.substr(0, std::min(text.size(), at + reach + bytes.size())).find(bytes, at);
      if (found == text.npos && bytes.size() > 1 && bytes[0] == ' ') {
        bytes.remove_prefix(1);
        found = text.substr(0, std::min(text.size(), at + reach + bytes.size())).find(bytes, at);
      }
    }
    if (found == text.npos) {  // no part of the text: an id that stands for nothing here
      out.push_back({at, at});
      continue;
    }
    out.push_back({found, found + bytes.size()});
    at = found + bytes.size();
  }
  return out;
}

/// Where byte `at` of a text lies in its NFC, which a tokenizer encodes instead.
KDLIB_FUNC std::size_t place_in_nfc(std::string_view text, std::size_t at) { return nfc(text.substr(0, at)).size(); }

KDLIB_FUNC std::vector<std::uint8_t> mask_of_spans(const Tokenizer& tokenizer, std::string_view text,
                                                   std::vector<TextSpan> learned, std::span<const std::int32_t> ids) {
  std::string composed;
  if (tokenizer.normalizes_nfc() && !is_surely_nfc(text)) {
    for (TextSpan& span : learned) span = {place_in_nfc(text, span.begin), place_in_nfc(text, span.end)};
    composed = nfc(text);
    text = composed;
  }
  const std::vector<TextSpan> tokens = token_spans(tokenizer, text, ids);
  std::vector<std::uint8_t> out(ids.size(), 0);
  for (std::size_t i = 0; i < ids.size(); ++i)
    for (const TextSpan& span : learned)
      if (tokens[i].begin < span.end && tokens[i].end > span.begin) out[i] = 1;
  return out;
}

KDLIB_FUNC TurnEnds turn_ends(const Tokenizer& tokenizer) {
  TurnEnds out;
  for (const std::int32_t id : tokenizer.stop_ids())
    if (tokenizer.has_token(id)) out.stop.emplace_back(tokenizer.token_bytes(id));
  for (const AddedToken& token : tokenizer.added_tokens())
    if (token.special) out.special.push_back(token.content);
  return out;
}

struct JinjaIds {
  JinjaOutput output;
  std::vector<std::int32_t> ids;
};

KDLIB_FUNC JinjaIds jinja_ids(const JinjaChat& chat, const Tokenizer& tokenizer, std::span<const ChatMessage> messages,
                              const RenderOptions& options, SpecialTokens content) {
  JinjaIds out{chat.render(messages, options), {}};
  const std::string& text = out.output.text;
  std::vector<std::size_t> places;
  if (content != SpecialTokens::parse) {
    std::vector<std::string_view> texts{text};
    for (const ChatMessage& m : messages) texts.push_back(m.content);
    const TokenGuard guard(tokenizer.added_tokens(), content == SpecialTokens::plain, unused_marks(texts, 1)[0]);
    const auto found = mark_places(chat.render(messages, options, &guard).text, text, guard.mark());
    require<InputError>(found.has_value(), "[chat template] ", chat.chosen(options).name(),
                        ": the conversation spells special tokens, and the template does more with them than to print "
                        "them; remove them from the messages");
    places = *found;
  }
  out.ids = places.empty() ? tokenizer.encode(text) : encode_apart(tokenizer, text, places, content);
  return out;
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
