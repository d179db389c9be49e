// SPDX-License-Identifier: Apache-2.0
// Bodies of harmony.hpp: the rules that a stream of read messages must follow.
#ifndef KDLIB_TEXT_HARMONY_INL_HPP
#define KDLIB_TEXT_HARMONY_INL_HPP

#include <algorithm>

#include "kdlib/text/harmony.hpp"
#include "kdlib/text/harmony_reader_inl.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

inline constexpr std::string_view harmony_names[] = {"<|start|>", "<|message|>", "<|channel|>", "<|constrain|>",
                                                     "<|end|>",   "<|call|>",    "<|return|>"};

/// "<|start|>, <|call|>"; empty when the tokenizer has all of them.
KDLIB_FUNC std::string missing_harmony_tokens(const Tokenizer& tokenizer) {
  std::string out;
  for (const std::string_view name : harmony_names)
    if (!tokenizer.token_to_id(name)) out += concat(out.empty() ? "" : ", ", name);
  return out;
}

/// The rules about meaning, message by message.
class HarmonyRules {
 public:
  HarmonyRules(HarmonyReader& reader, const HarmonyCheckOptions& options) : reader_(reader), options_(options) {}

  void check() {
    for (std::size_t i = 0; i < reader_.messages.size(); ++i) {
      const HarmonyMessage& m = reader_.messages[i];
      const HarmonyReader::Places& p = reader_.places[i];
      if (!m.has_message_token && m.terminator == HarmonyTerminator::none)
        continue;  // a header that breaks off: E_HEADER, or lenient
      if (!p.known_role && (p.role_is_empty || m.role != "tool")) {
        reader_.problem(HarmonyCode::role, p.role,
                        "the role system, developer, user or assistant, or a tool's name with to=");
        continue;  // nothing else can be said about it
      }
      channel(m, p);
      recipient(m, p);
      terminator(m, i + 1 == reader_.messages.size());
      order(m);
    }
    if (options_.reasoning_row) reasoning_row();
  }

 private:
  void channel(const HarmonyMessage& m, const HarmonyReader::Places& p) {
    const bool answers = m.role == "assistant" || m.role == "tool";
    if (!answers && p.has_channel) {
      reader_.problem(HarmonyCode::channel, p.channel, concat("no channel on a message of role ", m.role));
    } else if (p.has_channel && m.channel.empty()) {
      reader_.problem(HarmonyCode::channel, p.channel + 1, "a channel's name directly behind <|channel|>");
    } else if (p.has_channel && m.channel != "analysis" && m.channel != "commentary" && m.channel != "final") {
      reader_.problem(HarmonyCode::channel, p.channel + 1, "the channel analysis, commentary or final");
    } else if (m.role == "assistant" && !p.has_channel) {
      reader_.problem(HarmonyCode::channel, p.message, "<|channel|> on a message of the assistant");
    }
  }

  void recipient(const HarmonyMessage& m, const HarmonyReader::Places& p) {
    if (m.role == "tool") {
      if (m.recipient != "assistant")
        reader_.problem(HarmonyCode::recipient, p.recipient, "to=assistant on a tool's message");
    } else if (!m.recipient.empty() && m.role != "assistant") {
      reader_.problem(HarmonyCode::recipient, p.recipient, concat("no recipient on a message of role ", m.role));
    } else if (!m.recipient.empty() && m.channel == "final") {
      reader_.problem(HarmonyCode::recipient, p.recipient, "no recipient on channel final");
    }
  }

  void terminator(const HarmonyMessage& m, bool last) {
    if (m.terminator == HarmonyTerminator::none) return;
    const auto refuse = [&](const char* expected) { reader_.problem(HarmonyCode::term, m.end - 1, expected); };
    const bool assistant = m.role == "assistant", call = m.terminator == HarmonyTerminator::call,
               ret = m.terminator == HarmonyTerminator::ret;
    if (!assistant) {
      if (call || ret) refuse("<|end|> behind a message that is not the assistant's");
    } else if (!m.recipient.empty() && m.channel != "final") {
      if (!call) refuse("<|call|> behind a message to a tool");
    } else if (call) {
      refuse("<|end|> or <|return|> behind a message without a recipient or on channel final");
    } else if (ret && m.channel != "final") {
      refuse("<|end|>: <|return|> belongs to channel final");
    } else if (ret && !last) {
      refuse("<|end|>: <|return|> belongs to the last message");
    }
  }

  void order(const HarmonyMessage& m) {
    if (m.role == "system") {
      if (system_) reader_.problem(HarmonyCode::order, m.begin, "one system message at most");
      else if (&m != reader_.messages.data())
        reader_.problem(HarmonyCode::order, m.begin, "the system message in front of all others");
      system_ = true;
    }
    if (m.role == "developer" && user_)
      reader_.problem(HarmonyCode::order, m.begin, "the developer message in front of the user's");
    user_ = user_ || m.role == "user";
  }

  void reasoning_row() {
    const std::size_t end = reader_.messages.empty() ? 0 : reader_.messages.back().end;
    bool thought = false, answered = false;
    for (const HarmonyMessage& m : reader_.messages) {
      if (answered) reader_.problem(HarmonyCode::order, m.begin, "nothing behind the final message of a reasoning row");
      if (m.role == "tool") reader_.problem(HarmonyCode::order, m.begin, "no tool in a reasoning row");
      if (m.role != "assistant") continue;
      const bool final = m.channel == "final";
      if ((!final && m.channel != "analysis") || !m.recipient.empty()) {
        reader_.problem(HarmonyCode::order, m.begin, "analysis or final without a recipient in a reasoning row");
      } else if (final && !thought) {
        reader_.problem(HarmonyCode::order, m.begin, "an analysis message before the final one");
      }
      if (HarmonyReader::is_blank(m.content))
        reader_.problem(HarmonyCode::order, m.content_begin, "a content that is not empty");
      thought = thought || m.channel == "analysis";
      answered = answered || final;
    }
    if (!answered)
      reader_.problem(HarmonyCode::order, end, thought ? "a final message" : "an analysis message and a final message");
  }

  HarmonyReader& reader_;
  const HarmonyCheckOptions& options_;
  bool system_ = false, user_ = false;
};

/// Sorts the problems and gives each its byte offset.
KDLIB_FUNC void place_problems(const Tokenizer& tokenizer, std::span<const std::int32_t> ids,
                               std::vector<HarmonyProblem>& problems) {
  std::stable_sort(problems.begin(), problems.end(),
                   [](const HarmonyProblem& a, const HarmonyProblem& b) { return a.position < b.position; });
  std::size_t at = 0, bytes = 0;
  for (HarmonyProblem& problem : problems) {
    for (; at < problem.position && at < ids.size(); ++at) bytes += tokenizer.token_bytes(ids[at]).size();
    problem.byte = bytes;
  }
}

}  // namespace detail

KDLIB_FUNC HarmonyTokens HarmonyTokens::of(const Tokenizer& tokenizer) {
  const std::string missing = detail::missing_harmony_tokens(tokenizer);
  require<InputError>(missing.empty(), "[harmony] ", tokenizer.source(), ": the tokenizer has no ", missing,
                      "; Harmony needs the tokens of gpt-oss");
  const auto id = [&](std::string_view name) { return tokenizer.token_to_id(name).value_or(-1); };
  return {id("<|start|>"), id("<|message|>"), id("<|channel|>"),   id("<|constrain|>"),  id("<|end|>"),
          id("<|call|>"),  id("<|return|>"),  id("<|endoftext|>"), id("<|startoftext|>")};
}

KDLIB_FUNC std::string_view harmony_code_name(HarmonyCode code) {
  constexpr std::string_view names[] = {"",       "E_START", "E_HEADER", "E_ROLE", "E_CHANNEL", "E_RECIPIENT",
                                        "E_TERM", "E_ORDER", "E_TRUNC",  "E_EOD",  "E_CONTENT"};
  return names[static_cast<std::size_t>(code)];
}

KDLIB_FUNC std::string HarmonyProblem::text() const {
  return concat(harmony_code_name(code), " at token ", position, " (byte ", byte, "): expected ", expected, "; found ",
                found);
}

KDLIB_FUNC HarmonyCode HarmonyReport::first_error() const {
  return problems.empty() ? HarmonyCode::none : problems.front().code;
}

KDLIB_FUNC std::optional<std::size_t> HarmonyReport::error_position() const {
  return problems.empty() ? std::nullopt : std::optional(problems.front().position);
}

KDLIB_FUNC HarmonyReport check_harmony(const Tokenizer& tokenizer, std::span<const std::int32_t> ids,
                                       const HarmonyCheckOptions& options) {
  detail::HarmonyReader reader(tokenizer, ids, options);
  reader.read();
  detail::HarmonyRules(reader, options).check();
  HarmonyReport report;
  report.messages = std::move(reader.messages);
  report.problems = std::move(reader.problems);
  detail::place_problems(tokenizer, ids, report.problems);
  report.ok = report.problems.empty();
  for (const HarmonyMessage& m : report.messages) {
    if (m.role != "assistant") continue;
    if (m.channel == "analysis" && m.recipient.empty()) {
      if (report.has_analysis) report.analysis_text += '\n';
      report.analysis_text += m.content;
      report.has_analysis = true;
    } else if (m.channel == "final") {
      report.final_text = m.content;
      report.has_final = true;
    }
  }
  if (!report.messages.empty() && report.messages.back().terminator == HarmonyTerminator::ret)
    report.stop = HarmonyReport::Stop::ret;
  if (!report.messages.empty() && report.messages.back().terminator == HarmonyTerminator::call)
    report.stop = HarmonyReport::Stop::call;
  return report;
}

KDLIB_FUNC HarmonyReport check_harmony(const Tokenizer& tokenizer, std::string_view text,
                                       const HarmonyCheckOptions& options) {
  const std::vector<std::int32_t> ids = tokenizer.encode(text);
  return check_harmony(tokenizer, std::span<const std::int32_t>(ids), options);
}

KDLIB_FUNC std::vector<HarmonyMessage> parse_harmony(const Tokenizer& tokenizer, std::span<const std::int32_t> ids,
                                                     std::string_view source, const HarmonyCheckOptions& options) {
  HarmonyReport report = check_harmony(tokenizer, ids, options);
  if (!report.ok) fail<FormatError>("[harmony] ", source, ": ", report.problems.front().text());
  return std::move(report.messages);
}

KDLIB_FUNC ChatMessage chat_message_of(const HarmonyMessage& message) {
  ChatMessage out{message.role, message.content};
  out.name = message.name;
  out.channel = message.channel;
  out.recipient = message.recipient;
  out.content_type = message.content_type;
  return out;
}

KDLIB_FUNC HarmonyMasks harmony_masks(const Tokenizer& tokenizer, std::span<const std::int32_t> ids, ChatMask mask) {
  HarmonyCheckOptions options;
  options.lenient = true;
  detail::HarmonyReader reader(tokenizer, ids, options);
  reader.read();
  HarmonyMasks out;
  out.loss.assign(ids.size(), 0);
  out.span.assign(ids.size(), 0);
  const std::size_t role = 1 + tokenizer.encode("assistant", SpecialTokens::plain).size();  // <|start|> and the role
  bool after_prompt = true;
  for (const HarmonyMessage& m : reader.messages) {
    const bool assistant = m.role == "assistant";
    if (assistant) {
      const auto fill = [&](std::vector<std::uint8_t>& list, std::size_t begin, std::size_t end, int value) {
        for (std::size_t i = begin; i < end; ++i) list[i] = static_cast<std::uint8_t>(value);
      };
      fill(out.loss, m.begin, m.content_begin, mask.harmony_header);
      if (after_prompt && !mask.harmony_first_header)
        fill(out.loss, m.begin, std::min(m.begin + role, m.content_begin), 0);
      fill(out.loss, m.content_begin, m.content_end, 1);
      fill(out.loss, m.content_end, m.end, mask.end_of_turn);
      if (m.channel == "analysis" && m.recipient.empty()) fill(out.span, m.content_begin, m.content_end, 1);
      if (m.channel == "final") fill(out.span, m.content_begin, m.content_end, 2);
    }
    after_prompt = !assistant;
  }
  return out;
}

KDLIB_NAMESPACE_END

#endif
