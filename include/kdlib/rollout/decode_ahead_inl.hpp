// SPDX-License-Identifier: Apache-2.0
// Several steps of decoding on a device that draws tokens itself: the host waits once behind them.
#ifndef KDLIB_ROLLOUT_DECODE_AHEAD_INL_HPP
#define KDLIB_ROLLOUT_DECODE_AHEAD_INL_HPP

#include <span>
#include <vector>

#include "kdlib/model/decode_state.hpp"
#include "kdlib/rollout/head_logits.hpp"
#include "kdlib/rollout/sampler.hpp"
#include "kdlib/tensor/pending_routing.hpp"
#include "kdlib/tensor/queued_phase.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Steps after which the host looks whether a sequence has stopped: one that has writes up to 7 tokens for nothing.
constexpr std::int64_t steps_ahead = 8;

template <class M>
concept LogitsDraw = DrawsTokens<typename M::device_type, logit_t<typename M::device_type, typename M::scalar_type>>;
template <class M, class Cache>
concept DecodesAhead = LogitsDraw<M> &&
    requires(M& model, Cache& cache, std::span<const std::int32_t> slots, DecodeState<typename M::device_type>& state) {
  state = model.begin_decoding(cache, slots, slots, std::int64_t{1});
  model.decode_step(cache, state);
};

/// The number type and the kind of result of what draws tokens for a model.
template <class M>
struct DeviceDraw {
  using D = typename M::device_type;
  using L = logit_t<D, typename M::scalar_type>;
  using K = Kernels<D, L>;
  using Row = typename K::SampledRow;
  using Rule = typename K::SampleRule;
};

/// One step: runs `state`, draws a token for each of its rows at uniform [N] to drawn [N], which the next step runs.
template <class M, class Cache>
void decode_and_draw(M& model, Cache& cache, DecodeState<typename M::device_type>& state,
                     const typename DeviceDraw<M>::Rule& rule, const double* uniform,
                     typename DeviceDraw<M>::Row* drawn) {
  using Draw = DeviceDraw<M>;
  const auto hidden = model.decode_step(cache, state);
  const Tensor<typename Draw::L, typename Draw::D> logits = device_head_logits(model.head(), hidden.view());
  Draw::K::queue_sample_rows(rule, state.rows(), logits[1], logits.data(), uniform, drawn, state.ids.data());
}

/// What was drawn, on the host: the one wait of several steps, which reads what is pending of their routing, too.
template <class Row, class D>
std::vector<Row> read_draws(const Buffer<Row, D>& drawn, PendingRouting<D>& routing) {
  std::vector<Row> rows(static_cast<std::size_t>(drawn.count()));
  HostReads<D> reads;
  reads.add(drawn.data(), drawn.count(), rows.data());
  routing.read(reads);
  reads.wait();
  return rows;
}

/// What a device drew in several steps from `last` [B], the ids that sequences slots [B] wait with: token t of sequence
/// b, at t * B + b, is drawn at uniform[t * B + b] and is run by step t + 1. The cache holds a token a step more. What
/// is pending of the routing of these passes is read in the same wait.
template <class M, class Cache>
auto decode_ahead(M& model, Cache& cache, const Sampler& sampler, std::span<const std::int32_t> last,
                  std::span<const std::int32_t> slots, const std::vector<double>& uniform,
                  PendingRouting<typename M::device_type>& routing) {
  using D = typename M::device_type;
  using Row = typename DeviceDraw<M>::Row;
  const auto count = static_cast<std::int64_t>(last.size()), total = static_cast<std::int64_t>(uniform.size());
  DecodeState<D> state = model.begin_decoding(cache, slots, last, total / count);
  const Buffer<double, D> numbers(total);
  const Buffer<Row, D> drawn(total);
  Memory<D>::from_host(numbers.data(), uniform.data(), uniform.size() * sizeof(double));
  const auto rule = rule_of<typename DeviceDraw<M>::Rule>(sampler);
  QueuedPhase<D> queued;
  for (std::int64_t at = 0; at < total; at += count)
    decode_and_draw(model, cache, state, rule, numbers.data() + at, drawn.data() + at);
  queued.end();
  return read_draws(drawn, routing);
}

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
