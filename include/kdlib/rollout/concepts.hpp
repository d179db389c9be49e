// SPDX-License-Identifier: Apache-2.0
// What a trainer asks of text that the student writes, and what writing asks of a model.
#ifndef KDLIB_ROLLOUT_CONCEPTS_HPP
#define KDLIB_ROLLOUT_CONCEPTS_HPP

#include <concepts>
#include <cstdint>
#include <optional>
#include <span>

#include "kdlib/data/concepts.hpp"

KDLIB_NAMESPACE_BEGIN

/// Text that the student writes. The batch carries the log-probabilities under which its tokens were drawn. A call that
/// does not return leaves the cursor where it was: a batch cut short is written again, whole.
template <class S, class Student>
concept RolloutSource = requires(S& source, const S& constant, Student& student, const SourceCursor& cursor) {
  { source.next(student) } -> std::same_as<std::optional<TokenBatch>>;
  { constant.cursor() } -> std::convertible_to<SourceCursor>;
  source.seek(cursor);
};

/// A model that writes with a key-value cache. `decode(cache, batch, slots)` continues sequence slots[b] by document b
/// and returns the hidden states of its tokens [N, H]; `cache.truncate(slot, 0)` makes a slot empty again; `head()`
/// turns hidden states into logits.
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
