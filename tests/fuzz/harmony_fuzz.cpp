// SPDX-License-Identifier: Apache-2.0
// Arbitrary bytes as a stream of Harmony ids and as a conversation: the checker never throws, its places lie inside,
// and what it accepts is written again to the same ids.
#include <cstdint>
#include <cstdlib>
#include <string>

#include "kdlib/text/chat_template.hpp"
#include "kdlib/text/harmony.hpp"

using namespace kdlib;

namespace {

void must(bool holds) {
  if (!holds) std::abort();
}

/// 128 one-byte tokens, then the framing tokens and one other special token.
Tokenizer small_tokenizer() {
  std::string vocab, added;
  for (int b = 33; b < 127; ++b) {
    const char c = static_cast<char>(b);
    vocab += concat(vocab.empty() ? "" : ",", "\"", c == '"' || c == '\\' ? "\\" : "", c, "\":", b);
  }
  vocab += ",\"\xC4\xA0\":32,\"\xC4\x8A\":10";  // space and line feed
  int id = 128;
  for (const char* name : {"<|start|>", "<|message|>", "<|channel|>", "<|constrain|>", "<|end|>", "<|call|>",
                           "<|return|>", "<|endoftext|>", "<|startoftext|>", "<|x|>"})
    added += concat(added.empty() ? "" : ",", "{\"id\":", id++, ",\"content\":\"", name, "\",\"special\":true}");
  return Tokenizer::from_json_text(concat("{\"version\":\"1.0\",\"added_tokens\":[", added,
                                          "],\"pre_tokenizer\":{\"type\":\"ByteLevel\",\"add_prefix_space\":false},",
                                          "\"model\":{\"type\":\"BPE\",\"vocab\":{", vocab, "},\"merges\":[]}}"),
                                   "fuzz");
}

/// Bytes below 128 are tokens (or none); the others are framing tokens and short cuts for the words of headers.
std::vector<std::int32_t> ids_of(const std::uint8_t* data, std::size_t size, const Tokenizer& tokenizer) {
  constexpr const char* words[] = {"system", "developer", "user",        "assistant", "analysis", "commentary",
                                   "final",  " to=",      "functions.f", "json",      "all"};
  std::vector<std::int32_t> ids;
  for (std::size_t i = 0; i < size; ++i) {
    if (data[i] < 138) {
      ids.push_back(data[i]);
    } else {
      tokenizer.encode_append(words[(data[i] - 138u) % std::size(words)], ids, {});
    }
  }
  return ids;
}

void check(const Tokenizer& tokenizer, const std::vector<std::int32_t>& ids, const HarmonyCheckOptions& options) {
  const HarmonyReport report = check_harmony(tokenizer, std::span<const std::int32_t>(ids), options);
  must(report.ok == report.problems.empty());
  std::size_t before = 0;
  for (const HarmonyProblem& problem : report.problems) {
    must(problem.position >= before && problem.position <= ids.size() && problem.code != HarmonyCode::none);
    must(!problem.text().empty());
    before = problem.position;
  }
  HarmonyCheckOptions brief = options;
  brief.whole_contents = false;
  const auto problems = check_harmony(tokenizer, std::span<const std::int32_t>(ids), brief).problems;
  must(problems.size() == report.problems.size());
  for (std::size_t i = 0; i < problems.size(); ++i) must(problems[i].text() == report.problems[i].text());
  before = 0;
  for (const HarmonyMessage& m : report.messages) {
    must(before <= m.begin && m.begin <= m.content_begin && m.content_begin <= m.content_end &&
         m.content_end <= m.end && m.end <= ids.size());
    before = m.end;
  }
  if (!report.ok || options.completion || options.lenient || options.special_in_content || report.messages.empty())
    return;
  // A tool's answer without a channel is written into the channel commentary.
  for (const HarmonyMessage& m : report.messages)
    if (m.role == "tool" && m.channel.empty()) return;
  // A content type without its mark is only told from a recipient by the recipient before it, and "to=all" is not
  // written again.
  for (const HarmonyMessage& m : report.messages)
    if (m.recipient.empty() && !m.content_type.empty() && m.content_type.compare(0, 13, "<|constrain|>") != 0) return;
  // A header may be spelt in several ways; written once, it is read as the same messages, and written again it stays as
  // it is.
  std::vector<ChatMessage> read;
  for (const HarmonyMessage& m : report.messages) read.push_back(chat_message_of(m));
  RenderOptions render;
  render.add_default_system = false;
  render.past_analysis = PastAnalysis::off;
  render.training = report.stop == HarmonyReport::Stop::ret;
  const std::vector<std::int32_t> again = ChatTemplate::harmony().render_ids(tokenizer, read, render).ids;
  const HarmonyReport second = check_harmony(tokenizer, std::span<const std::int32_t>(again), options);
  must(second.ok && second.messages.size() == report.messages.size());
  for (std::size_t i = 0; i < read.size(); ++i) {
    const HarmonyMessage &a = report.messages[i], &b = second.messages[i];
    must(a.role == b.role && a.name == b.name && a.channel == b.channel && a.recipient == b.recipient &&
         a.content_type == b.content_type);
    must(a.content == b.content && a.terminator == b.terminator);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  static const Tokenizer tokenizer = small_tokenizer();
  const std::vector<std::int32_t> ids = ids_of(data, size, tokenizer);
  const int chosen = size == 0 ? 0 : data[0] & 15;  // all sixteen would only be slower
  for (const int bits : {0, chosen, 15 - chosen}) {
    HarmonyCheckOptions options;
    options.completion = (bits & 1) != 0;
    options.lenient = (bits & 2) != 0;
    options.reasoning_row = (bits & 4) != 0;
    options.special_in_content = (bits & 8) != 0;
    check(tokenizer, ids, options);
  }
  const HarmonyMasks masks = harmony_masks(tokenizer, ids);
  must(masks.loss.size() == ids.size() && masks.span.size() == ids.size());
  try {
    const std::string text(reinterpret_cast<const char*>(data), size);
    const std::vector<ChatMessage> messages = chat_messages_from_json(Json::parse(text, "fuzz"));
    RenderOptions options;
    options.past_analysis = PastAnalysis::off;
    options.training = true;
    ChatTemplate::harmony().render_ids(tokenizer, messages, options);
    options.past_analysis = PastAnalysis::reference;
    ChatTemplate::harmony().render(messages, options);
  } catch (const Error&) {
  }
  return 0;
}
