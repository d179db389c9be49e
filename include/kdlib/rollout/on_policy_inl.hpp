// SPDX-License-Identifier: Apache-2.0
// Bodies of on_policy.hpp.
#ifndef KDLIB_ROLLOUT_ON_POLICY_INL_HPP
#define KDLIB_ROLLOUT_ON_POLICY_INL_HPP

#include <utility>

#include "kdlib/rollout/on_policy.hpp"

KDLIB_NAMESPACE_BEGIN

inline OnPolicy::OnPolicy(Prompts prompts, Sampler sampler, OnPolicySettings settings)
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

inline void OnPolicy::reply_with(ReplyMaker maker, std::int64_t reply_tokens, std::string fingerprint) {
  replies_ = std::move(maker);
  reply_tokens_ = reply_tokens;
  fingerprint_.add(std::string_view(fingerprint));
  reply_fingerprint_ = std::move(fingerprint);
}

template <class Student>
std::optional<TokenBatch> OnPolicy::next(Student& student) {
  std::vector<WritingRequest> requests;
  std::vector<std::int64_t> items;
  std::int64_t ordinal = next_;
  for (std::int64_t i = 0; i < settings_.prompts; ++i, ++ordinal) {
    if (settings_.epochs > 0 && ordinal >= settings_.epochs * order_.count()) break;
    const std::int64_t item = order_.at(ordinal);
    for (std::int64_t sample = 0; sample < settings_.samples; ++sample) {
      requests.push_back({prompts_[item], static_cast<std::uint32_t>(ordinal), static_cast<std::uint32_t>(sample),
                          prompts_.source(item)});
      items.push_back(item);
    }
  }
  if (requests.empty()) return std::nullopt;
  GenerateSettings how{.batch = settings_.decode_batch,
                       .context_length = settings_.context_length,
                       .purpose = RngPurpose::sample_student};
  how.record_routing = settings_.record_routing;
  how.progress = settings_.progress;
  if (replies_) how.reply = replies_(prompts_, items);
  how.reply_tokens = reply_tokens_;
  const std::vector<Completion> texts = generate(student, std::span<const WritingRequest>(requests), sampler_, how);
  TokenBatch batch;
  for (std::size_t i = 0; i < requests.size(); ++i)
    append_completion(batch, requests[i].prompt, texts[i], requests[i].source);
  next_ = ordinal;  // only now: a batch cut short is written again, whole
  return batch;
}

inline SourceDescription OnPolicy::describe() const {
  SourceDescription list = {{"source", "on_policy"}, {"source.text", prompts_.fingerprint().text()}};
  append_fields(list, "source", settings_);
  append_fields(list, "sampler", sampler_);
  if (!reply_fingerprint_.empty()) list.emplace_back("source.replies", reply_fingerprint_);
  return list;
}

KDLIB_NAMESPACE_END

#endif
