// SPDX-License-Identifier: Apache-2.0
// Bodies of tool_turns.hpp.
#ifndef KDLIB_ROLLOUT_TOOL_TURNS_INL_HPP
#define KDLIB_ROLLOUT_TOOL_TURNS_INL_HPP

#include <algorithm>
#include <chrono>
#include <cmath>
#include <map>
#include <utility>

#include "kdlib/io/json_writer.hpp"
#include "kdlib/io/utf8.hpp"
#include "kdlib/rollout/tool_turns.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Nine letters and digits, which some templates ask for.
KDLIB_FUNC std::string call_id(std::size_t round, std::size_t index) {
  std::string digits = std::to_string(round * 1000 + index);
  return "call" + std::string(digits.size() < 5 ? 5 - digits.size() : 0, '0') + digits;
}

/// An assistant's turn with these calls. Its words do not matter: only what stands behind it is used.
KDLIB_FUNC ChatMessage calling_message(const std::vector<WrittenCall>& calls, std::size_t round) {
  JsonWriter json;
  json.begin_object().member("role", "assistant").member("content", "").key("tool_calls").begin_array();
  for (std::size_t i = 0; i < calls.size(); ++i) {
    const ToolCall& call = calls[i].call;
    json.begin_object().member("id", call_id(round, i)).member("type", "function").key("function").begin_object();
    json.member("name", call.name.empty() ? "unknown" : call.name).key("arguments");
    json.raw(call.arguments.empty() || !calls[i].problem.empty() ? "{}" : call.arguments).end_object().end_object();
  }
  json.end_array().end_object();
  return chat_message_from_json(Json::parse(json.text(), "a call"));
}

KDLIB_FUNC ChatMessage answering_message(const WrittenCall& call, std::string_view answer, std::size_t round,
                                         std::size_t index) {
  JsonWriter json;
  json.begin_object().member("role", "tool").member("name", call.call.name.empty() ? "unknown" : call.call.name);
  json.member("tool_call_id", call_id(round, index)).member("content", answer).end_object();
  return chat_message_from_json(Json::parse(json.text(), "an answer"));
}

}  // namespace detail

KDLIB_FUNC ToolTurns::ToolTurns(Tokenizer tokenizer, std::shared_ptr<ToolHost> host, std::vector<std::int32_t> stop_ids,
                                ToolLimits limits)
    : tokenizer_(std::move(tokenizer)), host_(std::move(host)), stop_ids_(std::move(stop_ids)), limits_(limits) {
  require<ConfigError>(limits.rounds >= 1 && limits.answer_tokens >= 1 && limits.calls >= 1 && limits.seconds > 0,
                       "[tools] rounds is ", limits.rounds, ", answer_tokens ", limits.answer_tokens, ", calls ",
                       limits.calls, ", seconds ", limits.seconds, "; all must be positive");
}

KDLIB_FUNC std::int64_t ToolTurns::reply_tokens() const {
  constexpr std::int64_t around = 64;  // what templates write around an answer
  return limits_.rounds * (limits_.answer_tokens + around);
}

KDLIB_FUNC std::string ToolTurns::fingerprint() const {
  return concat(host_->fingerprint(), "; rounds ", limits_.rounds, ", calls ", limits_.calls, ", tokens ",
                limits_.answer_tokens);
}

KDLIB_FUNC GenerateSettings::Reply ToolTurns::replies(std::vector<std::shared_ptr<const PromptChat>> chats) const {
  const auto first = std::find_if(chats.begin(), chats.end(), [](const auto& chat) { return chat != nullptr; });
  if (first != chats.end()) ToolCallFormat::of(*(*first)->chat, (*first)->options);  // refused before a text is written
  auto states = std::make_shared<std::map<std::size_t, State>>();
  return [this, chats = std::move(chats), states](std::size_t request, const Completion& text) {
    const std::shared_ptr<const PromptChat>& chat = chats.at(request);
    if (!chat) return std::vector<std::int32_t>();
    auto state = states->find(request);
    if (state == states->end())
      state = states->emplace(request, State{chat->messages, ToolCallFormat::of(*chat->chat, chat->options)}).first;
    return reply(*chat, state->second, text);
  };
}

KDLIB_FUNC std::vector<std::int32_t> ToolTurns::reply(const PromptChat& chat, State& state,
                                                      const Completion& text) const {
  if (state.rounds >= limits_.rounds) return {};
  std::size_t begin = text.ids.size() - 1;  // the stop id is no part of the turn's words
  while (begin > 0 && (text.given.empty() || text.given[begin - 1] == 0)) --begin;
  const std::span<const std::int32_t> ids(text.ids);
  const std::string words = tokenizer_.decode(ids.subspan(begin, text.ids.size() - 1 - begin));
  const std::vector<WrittenCall> calls = state.format.read(words);
  if (calls.empty()) return {};
  const auto round = static_cast<std::size_t>(state.rounds++);
  std::vector<ChatMessage> messages = state.messages;
  messages.push_back(detail::calling_message(calls, round));
  const std::size_t called = messages.size();
  for (std::size_t i = 0; i < calls.size(); ++i)
    messages.push_back(detail::answering_message(calls[i], shortened(answer(calls[i], i)), round, i));
  std::vector<std::int32_t> out = behind_turn(chat, messages, called);
  state.messages = std::move(messages);
  return out;
}

KDLIB_FUNC std::string ToolTurns::answer(const WrittenCall& call, std::size_t index) const {
  if (!call.problem.empty()) return "error: " + call.problem;
  if (index >= static_cast<std::size_t>(limits_.calls))
    return concat("error: only ", limits_.calls, " calls of a turn are answered");
  if (!host_->knows(call.call.name)) return concat("error: there is no tool \"", printable(call.call.name), "\"");
  const auto deadline =
      std::chrono::steady_clock::now() +
      std::chrono::duration_cast<std::chrono::steady_clock::duration>(std::chrono::duration<double>(limits_.seconds));
  std::string out;
  try {
    out = host_->answer(call.call, deadline);
  } catch (const Error& error) {
    out = concat("error: ", error.what());
  }
  if (std::chrono::steady_clock::now() > deadline)
    return concat("error: the tool took longer than ", std::llround(limits_.seconds * 1000), " ms");
  return replace_invalid_utf8(out);
}

KDLIB_FUNC std::string ToolTurns::shortened(const std::string& answer) const {
  const std::vector<std::int32_t> ids = tokenizer_.encode(answer, SpecialTokens::plain);
  if (static_cast<std::int64_t>(ids.size()) <= limits_.answer_tokens) return answer;
  std::string out = tokenizer_.decode_bytes(std::span(ids).first(static_cast<std::size_t>(limits_.answer_tokens)));
  out.resize(std::min(find_invalid_utf8(out), out.size()));  // no half of a letter
  return out + " [...]";
}

/// The conversation is written out up to the call and as a whole. The turn that calls ends with the stop id that is the
/// last of the first one; in the second one that is the stop id of the same number, and what stands in front of both is
/// the call's end. (Earlier turns may differ: templates drop thoughts of turns that are not the last.)
KDLIB_FUNC std::vector<std::int32_t> ToolTurns::behind_turn(const PromptChat& chat,
                                                            std::span<const ChatMessage> messages,
                                                            std::size_t called) const {
  RenderOptions options = chat.options;
  options.add_generation_prompt = false;
  const std::vector<std::int32_t> turn = chat.chat->ids(tokenizer_, messages.first(called), options);
  options.add_generation_prompt = true;
  const std::vector<std::int32_t> whole = chat.chat->ids(tokenizer_, messages, options);
  const auto stops = [this](std::int32_t id) {
    return std::find(stop_ids_.begin(), stop_ids_.end(), id) != stop_ids_.end();
  };
  const auto wanted = std::count_if(turn.begin(), turn.end(), stops);
  const auto last = std::find_if(turn.rbegin(), turn.rend(), stops).base();  // behind the stop id
  auto end = whole.begin();
  for (std::ptrdiff_t found = 0; found < wanted && end != whole.end(); ++end) found += stops(*end) ? 1 : 0;
  constexpr std::ptrdiff_t shown = 4;  // ids of the call's end
  const bool goes_on = wanted > 0 && end != whole.end() && last - turn.begin() >= shown &&
                       end - whole.begin() >= shown && std::equal(last - shown, last, end - shown);
  require<InputError>(
      goes_on, "[tools] the chat template ", detail::template_name(*chat.chat, options),
      " does not end a call with an end token and go on with its answer: an answer cannot be put behind "
      "what the model wrote");
  return {end, whole.end()};
}

KDLIB_NAMESPACE_END

#endif
