// SPDX-License-Identifier: Apache-2.0
// Bodies of rollout_prompts.hpp.
#ifndef KDLIB_ROLLOUT_ROLLOUT_PROMPTS_INL_HPP
#define KDLIB_ROLLOUT_ROLLOUT_PROMPTS_INL_HPP

#include <algorithm>

#include "kdlib/data/reasoning_rows.hpp"
#include "kdlib/rollout/rollout_prompts.hpp"
#include "kdlib/text/harmony.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_FUNC RolloutForm RolloutForm::harmony(const Tokenizer& tokenizer) {
  const HarmonyTokens tokens = HarmonyTokens::of(tokenizer);
  RolloutForm form;
  form.prompt_end = {tokens.start};
  tokenizer.encode_append("assistant", form.prompt_end, {.special = SpecialTokens::plain});
  form.stop_ids = {tokens.ret, tokens.call};
  if (tokens.end_of_text >= 0) form.stop_ids.push_back(tokens.end_of_text);
  form.spans = [tokenizer](std::span<const std::int32_t> text) {
    std::vector<std::int32_t> span_of(text.size(), 0);
    const HarmonyReport report =
        check_harmony(tokenizer, text, {.completion = true, .lenient = true, .whole_contents = false});
    for (const HarmonyMessage& m : report.messages) {
      if (m.channel != "final") continue;
      std::fill(span_of.begin() + static_cast<std::ptrdiff_t>(m.begin),
                span_of.begin() + static_cast<std::ptrdiff_t>(std::min(m.end, text.size())), 1);
      break;
    }
    return span_of;
  };
  form.valid = [tokenizer, ret = tokens.ret](std::span<const std::int32_t> text) {
    return !text.empty() && text.back() == ret &&
           check_harmony(tokenizer, text, {.completion = true, .reasoning_row = true, .whole_contents = false}).ok;
  };
  return form;
}

KDLIB_FUNC RolloutForm RolloutForm::thinking(const Tokenizer& tokenizer, std::vector<std::int32_t> stop_ids,
                                             bool opened) {
  require<ConfigError>(!stop_ids.empty(), "[rollouts] no id is named that ends a text");
  RolloutForm form;
  form.stop_ids = std::move(stop_ids);
  form.spans = [tokenizer](std::span<const std::int32_t> text) {
    constexpr std::string_view close = "</think>";
    const std::size_t closed = tokenizer.decode_bytes(text).find(close);
    std::vector<std::int32_t> span_of(text.size(), 0);
    if (closed == std::string::npos) return span_of;
    for (std::size_t i = 0, at = 0; i < text.size(); ++i) {
      if (at >= closed + close.size()) span_of[i] = 1;
      at += tokenizer.token_bytes(text[i]).size();
    }
    return span_of;
  };
  form.valid = [tokenizer, end = form.stop_ids.front(), opened](std::span<const std::int32_t> text) {
    if (text.empty() || text.back() != end) return false;
    const std::string written = tokenizer.decode_bytes(text.first(text.size() - 1));
    return (written.find("<think>") == std::string::npos) == opened && detail::find_thought(written).has_value();
  };
  return form;
}

KDLIB_FUNC RolloutForm RolloutForm::of(const TokenShards& files, const Tokenizer& tokenizer) {
  if (files.chat_template().empty()) return harmony(tokenizer);
  StoredDocument first;
  files.get(0, first);
  const auto counts = std::find(first.loss.begin(), first.loss.end(), std::uint8_t{1});
  require<FormatError>(counts != first.loss.end(), "[rollouts] no token of ", first.source, " counts");
  const auto begin = static_cast<std::size_t>(counts - first.loss.begin()) + 1;
  const std::string text = tokenizer.decode_bytes(std::span<const std::int32_t>(first.ids).subspan(begin));
  std::vector<std::int32_t> stop_ids{first.ids.back()};
  for (const auto& id : {tokenizer.eos_id(), tokenizer.token_to_id("<|endoftext|>")})
    if (id && std::find(stop_ids.begin(), stop_ids.end(), *id) == stop_ids.end()) stop_ids.push_back(*id);
  return thinking(tokenizer, std::move(stop_ids), text.find("<think>") == std::string::npos);
}

KDLIB_FUNC RolloutPrompts::RolloutPrompts(TokenShards shards, std::vector<std::int32_t> prompt_end,
                                          std::int64_t max_length)
    : shards_(std::move(shards)), prompt_end_(std::move(prompt_end)) {
  require<ConfigError>(shards_.effort_ids().size() == 3, "[rollouts] ", shards_.root(),
                       ": its documents name no effort, so that modes of reasoning cannot be asked for; make the token "
                       "files with --effort");
  const auto end = static_cast<std::int64_t>(prompt_end_.size());
  const std::vector<RowRecord> rows = shards_.records();
  for (std::size_t d = 0; d < rows.size(); ++d)
    if (!rows[d].truncated && rows[d].effort_at >= 0 && rows[d].prompt + end <= max_length)
      prompts_.push_back({static_cast<std::int64_t>(d), static_cast<std::int32_t>(rows[d].prompt),
                          static_cast<std::int32_t>(rows[d].effort_at)});
  require<ConfigError>(!prompts_.empty(), "[rollouts] none of ", rows.size(), " prompts in ", shards_.root(),
                       " is whole and has at most ", max_length, " tokens (--max-prompt-length)");
}

KDLIB_FUNC std::vector<std::int32_t> RolloutPrompts::at(std::int64_t i, ReasoningMode mode) const {
  const Place& place = prompts_.at(static_cast<std::size_t>(i));
  StoredDocument document;
  shards_.get(place.document, document);
  require<FormatError>(place.prompt <= static_cast<std::int64_t>(document.ids.size()) &&
                           place.effort_at < static_cast<std::int64_t>(place.prompt),
                       "[rollouts] ", document.source, ": its rows.jsonl has a prompt of ", place.prompt,
                       " tokens with the effort at ", place.effort_at, ", and the document has ", document.ids.size());
  std::vector<std::int32_t> ids(document.ids.begin(), document.ids.begin() + place.prompt);
  ids[static_cast<std::size_t>(place.effort_at)] = shards_.effort_ids()[static_cast<std::size_t>(mode)];
  ids.insert(ids.end(), prompt_end_.begin(), prompt_end_.end());
  return ids;
}

KDLIB_FUNC void RolloutCounts::add(ReasoningMode mode, std::span<const std::int32_t> text, bool stopped,
                                   const RolloutForm& form) {
  const auto m = static_cast<std::size_t>(mode);
  texts_[m] += 1;
  tokens_[m] += static_cast<double>(text.size());
  valid_[m] += stopped && form.valid(text) ? 1 : 0;
  truncated_ += stopped ? 0 : 1;
  for (const std::int32_t s : form.spans(text)) spans_[m][static_cast<std::size_t>(s)] += 1;
}

KDLIB_FUNC std::vector<std::pair<std::string, double>> RolloutCounts::metrics() const {
  std::vector<std::pair<std::string, double>> out;
  if (texts() == 0) return out;
  for (std::size_t m = 0; m < 3; ++m) {
    if (texts_[m] == 0) continue;
    const std::string mode = enum_names(ReasoningMode::low)[m];
    out.emplace_back("curriculum/" + mode, texts_[m]);
    out.emplace_back("rollout/valid/" + mode, valid_[m] / texts_[m]);
    out.emplace_back("rollout/length/" + mode, tokens_[m] / texts_[m]);
    out.emplace_back("rollout/length_reasoning/" + mode, spans_[m][0] / texts_[m]);
    out.emplace_back("rollout/length_final/" + mode, spans_[m][1] / texts_[m]);
  }
  out.emplace_back("rollout/valid", valid());
  out.emplace_back("rollout/truncated", truncated_ / texts());
  return out;
}

KDLIB_NAMESPACE_END

#endif
