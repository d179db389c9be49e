// SPDX-License-Identifier: Apache-2.0
// Bodies of on_policy.hpp that do not depend on a student.
#ifndef KDLIB_ROLLOUT_ON_POLICY_PROMPTS_INL_HPP
#define KDLIB_ROLLOUT_ON_POLICY_PROMPTS_INL_HPP

#include <utility>

#include "kdlib/core/error.hpp"
#include "kdlib/rollout/on_policy.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_FUNC OnPolicy::OnPolicy(Prompts prompts, Sampler sampler, OnPolicySettings settings)
    : prompts_(std::move(prompts)),
      sampler_(std::move(sampler)),
      settings_(std::move(settings)),
      order_(prompts_.size(), settings_.seed),
      fingerprint_(prompts_.fingerprint()) {
  sampler_.check();
  require<ConfigError>(settings_.prompts >= 1 && settings_.samples >= 1, "[OnPolicy] prompts is ", settings_.prompts,
                       ", samples is ", settings_.samples, "; both must be 1 or more");
  require<ConfigError>(settings_.epochs >= 0, "[OnPolicy] epochs is ", settings_.epochs,
                       "; it must be 0 (without end) or more");
  if (sampler_.stop_ids.empty()) sampler_.stop_ids = prompts_.stop_ids();
  fingerprint_.add(static_cast<std::int64_t>(settings_.seed));
}

KDLIB_FUNC void OnPolicy::reply_with(ReplyMaker maker, std::int64_t reply_tokens, std::string fingerprint) {
  replies_ = std::move(maker);
  reply_tokens_ = reply_tokens;
  fingerprint_.add(std::string_view(fingerprint));
  reply_fingerprint_ = std::move(fingerprint);
}

KDLIB_FUNC OnPolicy::Requests OnPolicy::requests(std::int64_t begin, std::int64_t end) {
  Requests out;
  for (std::int64_t ordinal = begin; ordinal < end; ++ordinal) {
    const std::int64_t item = order_.at(ordinal);
    for (std::int64_t sample = 0; sample < settings_.samples; ++sample) {
      out.texts.push_back({prompts_[item], static_cast<std::uint32_t>(ordinal), static_cast<std::uint32_t>(sample),
                           prompts_.source(item)});
      out.items.push_back(item);
    }
  }
  return out;
}

KDLIB_FUNC GenerateSettings OnPolicy::how(std::span<const std::int64_t> items) const {
  GenerateSettings how{.batch = settings_.decode_batch,
                       .context_length = settings_.context_length,
                       .purpose = RngPurpose::sample_student};
  how.record_routing = settings_.record_routing;
  how.progress = settings_.progress;
  if (replies_) how.reply = replies_(prompts_, items);
  how.reply_tokens = reply_tokens_;
  return how;
}

KDLIB_FUNC bool OnPolicy::skip() {
  const std::int64_t end = end_of_next(1);
  return std::exchange(next_, end) < end;
}

KDLIB_FUNC SourceDescription OnPolicy::describe() const {
  SourceDescription list = {{"source", "on_policy"}, {"source.text", prompts_.fingerprint().text()}};
  append_fields(list, "source", settings_);
  append_fields(list, "sampler", sampler_);
  if (!reply_fingerprint_.empty()) list.emplace_back("source.replies", reply_fingerprint_);
  return list;
}

KDLIB_NAMESPACE_END

#endif
