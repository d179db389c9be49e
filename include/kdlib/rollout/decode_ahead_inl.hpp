// SPDX-License-Identifier: Apache-2.0
// Several steps of decoding on a device that draws tokens itself: the host waits once behind them.
#ifndef KDLIB_ROLLOUT_DECODE_AHEAD_INL_HPP
#define KDLIB_ROLLOUT_DECODE_AHEAD_INL_HPP

#include <span>
#include <vector>

#include "kdlib/rollout/head_logits.hpp"
#include "kdlib/rollout/sampler.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Steps after which the host looks whether a sequence has stopped: one that has writes up to 7 tokens for nothing.
constexpr std::int64_t steps_ahead = 8;

template <class M>
concept LogitsDraw = DrawsTokens<typename M::device_type, logit_t<typename M::device_type, typename M::scalar_type>>;
template <class M, class Cache>
concept DecodesAhead = LogitsDraw<M> &&
    requires(M& model, Cache& cache, const TokenBatch& batch, std::span<const std::int32_t> slots,
             const Tensor<std::int32_t, typename M::device_type>& ids) {
  model.decode(cache, batch, slots, ids);
};

/// What a device drew in `steps` steps from `last` [B], the ids that sequences slots [B] wait with: token t of sequence
/// b, at t * B + b, is drawn at uniform[t * B + b] and is run by step t + 1. The cache holds `steps` tokens more.
template <class M, class Cache>
auto decode_ahead(M& model, Cache& cache, const Sampler& sampler, std::span<const std::int32_t> last,
                  std::span<const std::int32_t> slots, const std::vector<double>& uniform) {
  using D = typename M::device_type;
  using L = logit_t<D, typename M::scalar_type>;
  using K = Kernels<D, L>;
  using Row = typename K::SampledRow;
  const auto count = static_cast<std::int64_t>(last.size());
  const std::int64_t total = static_cast<std::int64_t>(uniform.size());
  const std::int32_t nothing = 0;
  TokenBatch batch;  // one token a sequence, whose id is on the device
  for (std::int64_t b = 0; b < count; ++b) batch.append(std::span<const std::int32_t>(&nothing, 1));
  Tensor<std::int32_t, D> ids(Shape{count}), next(Shape{count});
  Memory<D>::from_host(ids.data(), last.data(), last.size_bytes());
  const Buffer<double, D> numbers(total);
  const Buffer<Row, D> drawn(total);
  Memory<D>::from_host(numbers.data(), uniform.data(), uniform.size() * sizeof(double));
  const auto rule = rule_of<typename K::SampleRule>(sampler);
  for (std::int64_t at = 0; at < total; at += count) {
    const auto hidden = model.decode(cache, batch, slots, ids);
    const Tensor<L, D> logits = device_head_logits(model.head(), hidden.view());
    K::queue_sample_rows(rule, count, logits[1], logits.data(), numbers.data() + at, drawn.data() + at, next.data());
    std::swap(ids, next);
  }
  std::vector<Row> rows(uniform.size());
  Memory<D>::to_host(rows.data(), drawn.data(), rows.size() * sizeof(Row));
  return rows;
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
