// SPDX-License-Identifier: Apache-2.0
// Bodies of reasoning_rows.hpp.
#ifndef KDLIB_DATA_REASONING_ROWS_INL_HPP
#define KDLIB_DATA_REASONING_ROWS_INL_HPP

#include <algorithm>
#include <iterator>
#include <utility>

#include "kdlib/core/settings_error.hpp"
#include "kdlib/data/curriculum.hpp"
#include "kdlib/data/reasoning_rows.hpp"
#include "kdlib/io/utf8.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {
inline constexpr auto effort_words = enum_names(ReasoningMode::low);

/// Nothing but white space: ASCII's, and the spaces of U+0085, U+00A0, U+2000 to U+200A, U+2028, U+2029 and U+3000.
KDLIB_FUNC bool is_blank(std::string_view text) {
  for (std::size_t i = 0; i < text.size();) {
    const auto at = [&](std::size_t k) { return i + k < text.size() ? static_cast<unsigned char>(text[i + k]) : 0u; };
    if (at(0) == ' ' || (at(0) >= 9 && at(0) <= 13)) i += 1;
    else if (at(0) == 0xC2 && (at(1) == 0x85 || at(1) == 0xA0)) i += 2;
    else if (at(0) == 0xE2 && at(1) == 0x80 && ((at(2) >= 0x80 && at(2) <= 0x8A) || at(2) == 0xA8 || at(2) == 0xA9))
      i += 3;
    else if (at(0) == 0xE3 && at(1) == 0x80 && at(2) == 0x80) i += 3;
    else return false;
  }
  return true;
}

KDLIB_FUNC std::optional<ThoughtPlace> find_thought(std::string_view text) {
  constexpr std::string_view open = "<think>", close = "</think>";
  const std::size_t opened = text.find(open), closed = text.find(close);
  if (closed == std::string_view::npos || (opened != std::string_view::npos && !is_blank(text.substr(0, opened))))
    return std::nullopt;
  const ThoughtPlace at{opened == std::string_view::npos ? 0 : opened + open.size(), closed, closed + close.size()};
  if (at.begin > at.end || text.find(open, at.begin) != std::string_view::npos ||
      text.find(close, at.answer) != std::string_view::npos || is_blank(text.substr(at.begin, at.end - at.begin)) ||
      is_blank(text.substr(at.answer)))
    return std::nullopt;
  return at;
}

KDLIB_FUNC bool among(const std::vector<std::string>& list, const std::string& word) {
  return list.empty() || std::find(list.begin(), list.end(), word) != list.end();
}
}  // namespace detail

KDLIB_FUNC ReasoningRow reasoning_row_from_json(const Json& object) {
  if (!object.is_object()) object.refuse("is no object; a row has synth_id, query and more");
  ReasoningRow row;
  const auto read = [&object](const char* key, std::string& out) {
    if (const auto value = object.find_set(key)) out = value->as_string();
  };
  read("synth_id", row.key);
  read("language", row.language);
  read("exercise", row.exercise);
  read("constraints", row.constraints);
  read("query", row.query);
  read("synthetic_reasoning", row.reasoning);
  read("synthetic_answer", row.answer);
  return row;
}

KDLIB_FUNC std::vector<std::uint8_t> label_aligned(const std::vector<std::uint8_t>& mask) {
  std::vector<std::uint8_t> out(mask.size() + 1, 0);
  if (!mask.empty()) std::copy(mask.begin() + 1, mask.end(), out.begin());
  return out;
}

/// Half-open ranges of ids: the contents that may be cut.
struct RowRenderer::Parts {
  std::size_t user_begin = 0, user_end = 0, thought_begin = 0, thought_end = 0;
};

KDLIB_FUNC RowRenderer::RowRenderer(const Tokenizer& tokenizer, RowSettings settings)
    : tokenizer_(tokenizer), settings_(std::move(settings)) {
  const std::string& effort = settings_.effort;
  require<SettingsError>(effort.empty() || effort == "by-length" || enum_value<ReasoningMode>(effort),
                         "[rows] the effort is '", effort, "'; it is low, medium, high or by-length");
  require<SettingsError>(
      effort != "by-length" || (settings_.low_below >= 0 && settings_.medium_below > settings_.low_below),
      "[rows] by-length needs two limits that rise, such as 128,512; they are ", settings_.low_below, " and ",
      settings_.medium_below);
  require<SettingsError>(settings_.max_length >= 16, "[rows] max_length is ", settings_.max_length,
                         "; a document needs 16 tokens at least");
  const auto end = tokenizer_.token_to_id("<|endoftext|>");
  if (end || tokenizer_.eos_id()) end_of_document_ = end ? *end : *tokenizer_.eos_id();
  require<ConfigError>(end_of_document_ >= 0, "[rows] ", tokenizer_.source(),
                       " has neither <|endoftext|> nor an eos token, which ends documents in token files");
  if (settings_.chat_template.empty()) set_up_harmony();
  else set_up_template();
}

KDLIB_FUNC void RowRenderer::find_effort(const std::array<std::vector<std::int32_t>, 3>& prefixes) {
  std::vector<std::size_t> places;
  const bool same = prefixes[0].size() == prefixes[1].size() && prefixes[1].size() == prefixes[2].size();
  for (std::size_t i = 0; same && i < prefixes[0].size(); ++i)
    if (prefixes[0][i] != prefixes[1][i] || prefixes[0][i] != prefixes[2][i]) places.push_back(i);
  const std::size_t at = places.empty() ? 0 : places[0];
  require<ConfigError>(places.size() == 1 && prefixes[0][at] != prefixes[1][at] && prefixes[1][at] != prefixes[2][at] &&
                           prefixes[0][at] != prefixes[2][at],
                       "[rows] the words low, medium and high are not one token each at one place of the system turn "
                       "with this tokenizer and template: modes of reasoning cannot be used");
  effort_at_ = static_cast<std::int64_t>(at);
  for (const auto& prefix : prefixes) effort_ids_.push_back(prefix[at]);
}

KDLIB_FUNC void RowRenderer::set_up_harmony() {
  const HarmonyTokens t = HarmonyTokens::of(tokenizer_);
  end_ = t.end;
  return_ = t.ret;
  if (settings_.effort.empty()) settings_.effort = "medium";
  HarmonySystem system;
  if (!settings_.identity.empty()) system.identity = settings_.identity;
  if (!settings_.cutoff.empty()) system.cutoff = settings_.cutoff;
  system.date = settings_.date;
  std::array<std::vector<std::int32_t>, 3> prefixes;
  for (std::size_t i = 0; i < 3; ++i) {
    system.effort = detail::effort_words[i];
    std::vector<ChatMessage> list{ChatMessage{"system", ""}};
    list[0].system = system;
    if (!settings_.instructions.empty()) {
      list.push_back(ChatMessage{"developer", ""});
      list[1].developer = HarmonyDeveloper{.instructions = settings_.instructions};
    }
    prefixes[i] = ChatTemplate::harmony().ids(tokenizer_, list, {}, SpecialTokens::plain);
  }
  find_effort(prefixes);
  prefix_ = prefixes[1];
  const auto header = [&](std::string_view role, std::string_view channel) {
    std::vector<std::int32_t> ids{t.start};
    tokenizer_.encode_append(role, ids, {.special = SpecialTokens::plain});
    if (!channel.empty()) {
      ids.push_back(t.channel);
      tokenizer_.encode_append(channel, ids, {.special = SpecialTokens::plain});
    }
    ids.push_back(t.message);
    return ids;
  };
  user_ = header("user", "");
  analysis_ = header("assistant", "analysis");
  final_ = header("assistant", "final");
}

KDLIB_FUNC void RowRenderer::set_up_template() {
  for (const auto* text : {&settings_.identity, &settings_.cutoff, &settings_.date})
    require<SettingsError>(text->empty(),
                           "[rows] identity, cutoff and date belong to Harmony's system message; the "
                           "template ",
                           settings_.chat_template, " has no place for '", *text, "'");
  require<SettingsError>(!settings_.content_spans,
                         "[rows] content_spans belongs to Harmony; the spans of a template end "
                         "with </think>");
  template_ = chat_template_from(settings_.chat_template, tokenizer_);
  if (settings_.effort.empty()) return;
  const ReasoningRow row{"", "", "", "", "?", "?", "?"};
  std::array<std::vector<std::int32_t>, 3> prefixes;
  for (std::size_t i = 0; i < 3; ++i)
    prefixes[i] = template_->ids(tokenizer_, messages(row, detail::effort_words[i]), {.training = true});
  find_effort(prefixes);
}

KDLIB_FUNC std::vector<ChatMessage> RowRenderer::messages(const ReasoningRow& row, std::string_view effort) const {
  std::string system = settings_.instructions;
  if (!effort.empty()) system += concat(system.empty() ? "" : "\n\n", "Reasoning: ", effort);
  std::vector<ChatMessage> list;
  if (!system.empty()) list.push_back(ChatMessage{"system", std::move(system)});
  list.push_back(ChatMessage{"user", row.query});
  list.push_back(ChatMessage{"assistant", concat("<think>\n", row.reasoning, "\n</think>\n\n", row.answer)});
  return list;
}

KDLIB_FUNC bool RowRenderer::fits_filters(const ReasoningRow& row) const {
  return detail::among(settings_.languages, row.language) && detail::among(settings_.exercises, row.exercise) &&
         row.constraints.find("failed after maximum attempts") == std::string::npos;
}

KDLIB_FUNC void RowRenderer::choose_effort(RowDocument& document, std::int64_t reasoning) const {
  if (effort_at_ < 0) return;
  const ReasoningMode by_length = reasoning < settings_.low_below      ? ReasoningMode::low
                                  : reasoning < settings_.medium_below ? ReasoningMode::medium
                                                                       : ReasoningMode::high;
  const auto word = static_cast<std::size_t>(enum_value<ReasoningMode>(settings_.effort).value_or(by_length));
  document.effort = detail::effort_words[word];
  document.effort_at = effort_at_;
  document.ids[static_cast<std::size_t>(effort_at_)] = effort_ids_[word];
}

KDLIB_FUNC RowRenderer::Parts RowRenderer::write_harmony(const ReasoningRow& row, RowDocument& out) const {
  Parts parts;
  const auto add = [&out](const std::vector<std::int32_t>& ids, std::uint8_t loss, std::uint8_t span) {
    out.ids.insert(out.ids.end(), ids.begin(), ids.end());
    out.loss.resize(out.ids.size(), loss);
    out.span.resize(out.ids.size(), span);
  };
  const auto content = [&](const std::string& text, std::uint8_t loss, std::uint8_t span) {
    tokenizer_.encode_append(text, out.ids, {.special = SpecialTokens::plain});
    out.loss.resize(out.ids.size(), loss);
    out.span.resize(out.ids.size(), span);
  };
  const std::uint8_t around_thought = settings_.content_spans ? 0 : 1, around_answer = settings_.content_spans ? 0 : 2;
  add(prefix_, 0, 0);
  add(user_, 0, 0);
  parts.user_begin = out.ids.size();
  content(row.query, 0, 0);
  parts.user_end = out.ids.size();
  add({end_}, 0, 0);
  out.prompt = static_cast<std::int64_t>(out.ids.size());
  add(analysis_, 1, around_thought);
  parts.thought_begin = out.ids.size();
  content(row.reasoning, 1, 1);
  parts.thought_end = out.ids.size();
  add({end_}, 1, around_thought);
  add(final_, 1, around_answer);
  const std::size_t answer = out.ids.size();
  content(row.answer, 1, 2);
  out.final = static_cast<std::int64_t>(out.ids.size() - answer);
  add({return_}, 1, around_answer);
  return parts;
}

/// False where the text does not have the form "<think> thought </think> answer".
KDLIB_FUNC bool RowRenderer::write_template(const ReasoningRow& row, RowDocument& out, Parts& parts) const {
  const std::string_view open = "<think>", close = "</think>";
  for (const std::string* text : {&row.query, &row.reasoning, &row.answer})
    if (text->find(open) != std::string::npos || text->find(close) != std::string::npos) return false;
  const char* word = settings_.effort.empty() ? "" : "medium";  // choose_effort writes the right one
  ChatIds chat = template_->render_ids(tokenizer_, messages(row, word), {.training = true});
  while (!chat.loss_mask.empty() && chat.loss_mask.back() == 0) chat.loss_mask.pop_back();
  chat.ids.resize(chat.loss_mask.size());
  const auto first = std::find(chat.loss_mask.begin(), chat.loss_mask.end(), std::uint8_t{1});
  if (first == chat.loss_mask.end()) return false;
  const auto begin = static_cast<std::size_t>(first - chat.loss_mask.begin());
  const std::string text = tokenizer_.decode_bytes(std::span(chat.ids).subspan(begin));
  const auto place = detail::find_thought(text);
  if (!place) return false;
  out.ids = std::move(chat.ids);
  out.loss = std::move(chat.loss_mask);
  out.span.assign(out.ids.size(), 0);
  out.prompt = static_cast<std::int64_t>(begin);
  parts.thought_begin = parts.thought_end = 0;
  for (std::size_t i = begin, at = 0; i < out.ids.size(); ++i) {
    if (at >= place->begin && parts.thought_begin == 0) parts.thought_begin = i;
    if (at >= place->end && parts.thought_end == 0) parts.thought_end = i;
    if (out.loss[i] != 0) out.span[i] = at < place->answer ? 1 : 2;
    at += tokenizer_.token_bytes(out.ids[i]).size();
  }
  parts.thought_end = std::max(parts.thought_end, parts.thought_begin);
  out.final = std::count(out.span.begin(), out.span.end(), std::uint8_t{2});
  return true;
}

KDLIB_FUNC bool RowRenderer::is_valid(const RowDocument& document) const {
  if (template_) return true;  // write_template has looked
  const HarmonyCheckOptions options{.reasoning_row = true, .whole_contents = false};
  return check_harmony(tokenizer_, std::span<const std::int32_t>(document.ids), options).ok;
}

/// Takes tokens off the beginning of the thought, then of the question; one of each stays.
KDLIB_FUNC bool RowRenderer::cut(RowDocument& document, Parts& parts) const {
  auto surplus = static_cast<std::ptrdiff_t>(document.ids.size()) - settings_.max_length;
  const auto take = [&](std::size_t begin, std::size_t end) {
    const std::ptrdiff_t most = static_cast<std::ptrdiff_t>(end - begin) - 1;
    const std::ptrdiff_t n = std::max<std::ptrdiff_t>(0, std::min(surplus, most));
    const auto erase = [&](auto& list) {
      const auto first = list.begin() + static_cast<std::ptrdiff_t>(begin);
      list.erase(first, first + n);
    };
    erase(document.ids);
    erase(document.loss);
    erase(document.span);
    surplus -= n;
    return n;
  };
  parts.thought_end -= static_cast<std::size_t>(take(parts.thought_begin, parts.thought_end));
  const std::ptrdiff_t asked = take(parts.user_begin, parts.user_end);
  document.prompt -= asked;
  document.truncated = true;
  return surplus <= 0;
}

KDLIB_FUNC RowSkip RowRenderer::render(const ReasoningRow& row, RowDocument& document) const {
  document = RowDocument{};
  if (row.key.empty()) return RowSkip::no_id;
  for (const std::string* text : {&row.key, &row.language, &row.exercise, &row.query, &row.reasoning, &row.answer})
    if (find_invalid_utf8(*text) != std::string_view::npos) return RowSkip::not_utf8;
  if (detail::is_blank(row.query)) return RowSkip::empty_query;
  if (detail::is_blank(row.reasoning)) return RowSkip::empty_reasoning;
  if (detail::is_blank(row.answer)) return RowSkip::empty_answer;
  if (!fits_filters(row)) return RowSkip::filtered;
  Parts parts;
  if (!template_) parts = write_harmony(row, document);
  else if (!write_template(row, document, parts)) return RowSkip::invalid;
  choose_effort(document, static_cast<std::int64_t>(parts.thought_end - parts.thought_begin));
  if (!is_valid(document)) return RowSkip::invalid;
  if (static_cast<std::int64_t>(document.ids.size()) > settings_.max_length) {
    if (settings_.too_long == LongRow::drop || !cut(document, parts) || !is_valid(document)) return RowSkip::too_long;
  }
  document.reasoning = static_cast<std::int64_t>(parts.thought_end - parts.thought_begin);
  return RowSkip::none;
}

KDLIB_NAMESPACE_END

#endif
