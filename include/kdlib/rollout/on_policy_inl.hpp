// SPDX-License-Identifier: Apache-2.0
// Bodies of on_policy.hpp.
#ifndef KDLIB_ROLLOUT_ON_POLICY_INL_HPP
#define KDLIB_ROLLOUT_ON_POLICY_INL_HPP

#include <utility>

#include "kdlib/rollout/on_policy.hpp"

KDLIB_NAMESPACE_BEGIN

template <class Student>
std::optional<TokenBatch> OnPolicy::next(Student& student) {
  const std::int64_t end = end_of_next(1);
  const Requests all = requests(next_, end);
  if (all.texts.empty()) return std::nullopt;
  const std::int64_t before = (next_ - written_begin_) * settings_.samples;
  const bool is_written =
      before >= 0 && before + static_cast<std::int64_t>(all.texts.size()) <= static_cast<std::int64_t>(written_.size());
  std::vector<Completion> now;
  if (!is_written) now = generate(student, std::span<const WritingRequest>(all.texts), sampler_, how(all.items));
  TokenBatch batch;
  for (std::size_t i = 0; i < all.texts.size(); ++i)
    append_completion(batch, all.texts[i].prompt, is_written ? written_[static_cast<std::size_t>(before) + i] : now[i],
                      all.texts[i].source);
  next_ = end;  // only now: a batch cut short is written again, whole
  return batch;
}

template <class Student>
void OnPolicy::write_step(Student& student, std::int64_t batches, std::int64_t group, AnyCommunicator& ranks) {
  written_.clear();
  const Requests all = requests(next_, end_of_next(batches));
  const auto how_of = [&](std::size_t first, std::size_t count) {
    return how(std::span(all.items).subspan(first, count));
  };
  written_ = write_in_groups(student, std::span<const WritingRequest>(all.texts), sampler_, group, ranks, how_of);
  written_begin_ = next_;
}

KDLIB_NAMESPACE_END

#endif
