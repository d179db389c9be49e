// SPDX-License-Identifier: Apache-2.0
// What a trainer needs of a source of text that the student writes, and what writing needs of a model.
#ifndef KDLIB_ROLLOUT_CONCEPTS_HPP
#define KDLIB_ROLLOUT_CONCEPTS_HPP

#include <concepts>
#include <cstdint>
#include <optional>
#include <span>

#include "kdlib/data/concepts.hpp"
#include "kdlib/loss/concepts.hpp"

KDLIB_NAMESPACE_BEGIN

/// A source of text that the student writes. The batch carries the log-probabilities under which its tokens were drawn.
/// A source that knows its sampler may offer check_loss(SampledTextUse), which throws ConfigError if the loss and the
/// sampler do not fit; Trainer calls it before the first step. If next() throws, the cursor stays where it was: a batch
/// that was cut short is written again as a whole.
template <class S, class Student>
concept RolloutSource = requires(S& source, const S& constant, Student& student, const SourceCursor& cursor) {
  { source.next(student) } -> std::same_as<std::optional<TokenBatch>>;
  { constant.cursor() } -> std::convertible_to<SourceCursor>;
  source.seek(cursor);
};

/// What a loss does with text that was sampled.
struct SampledTextUse {
  /// The loss estimates from the drawn token (policy gradient), not from the whole vocabulary.
  bool reads_sampled_tokens = false;
  bool corrects_by_ratio = false;       // the loss multiplies by q / mu; mu is the recorded behaviour probability
  bool accepts_truncated_text = false;  // the user wants the full-vocabulary loss on text from a truncated distribution
};

/// Adds the use of one term to the use of a sum. The sum corrects by the ratio if each of its sampled terms does.
inline void add_use(SampledTextUse& sum, const SampledTextUse& term) {
  sum.reads_sampled_tokens = sum.reads_sampled_tokens || term.reads_sampled_tokens;
  sum.corrects_by_ratio = sum.corrects_by_ratio && (term.corrects_by_ratio || !term.reads_sampled_tokens);
}

/// Returns what a loss, or a sum of losses, does with sampled text. A loss reads the drawn token if it reads the
/// teacher's log-probability of the label. A member `corrects_by_ratio()` of the loss says whether it multiplies by q /
/// mu.
template <class Loss>
SampledTextUse sampled_text_use(const Loss& loss) {
  SampledTextUse use{.corrects_by_ratio = true};
  if constexpr (is_loss_sum<Loss>) {
    loss.for_each([&](double, const auto& term) { add_use(use, sampled_text_use(term)); });
  } else {
    if constexpr (requires { loss.reads_sampled_tokens(); }) use.reads_sampled_tokens = loss.reads_sampled_tokens();
    else use.reads_sampled_tokens = reads_teacher_label<Loss>;
    if constexpr (requires { loss.corrects_by_ratio(); }) use.corrects_by_ratio = loss.corrects_by_ratio();
    else use.corrects_by_ratio = !use.reads_sampled_tokens;
  }
  return use;
}

/// A model that writes with a key-value cache. `decode(cache, batch, slots)` continues the sequence in slot slots[b]
/// with document b and returns the hidden states [N, H] of its tokens. `cache.truncate(slot, 0)` makes a slot empty.
/// `head()` turns hidden states into logits.
template <class M>
concept GenerativeModel = requires(M& model, const M& constant, const TokenBatch& batch,
                                   std::span<const std::int32_t> slots, std::int64_t n) {
  typename M::device_type;
  typename M::scalar_type;
  { constant.vocab_size() } -> std::convertible_to<std::int64_t>;
  constant.head();
  {constant.make_cache(n, n)};
  requires requires(decltype(constant.make_cache(n, n))& cache, std::int64_t slot) {
    cache.truncate(slot, std::int64_t{0});
    {model.decode(cache, batch, slots).view()};
  };
};

KDLIB_NAMESPACE_END

#endif
