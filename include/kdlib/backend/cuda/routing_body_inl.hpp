// SPDX-License-Identifier: Apache-2.0
// Functors that choose experts, share tokens out to them and sum up what the router did. A warp has a token.
#ifndef KDLIB_BACKEND_CUDA_ROUTING_BODY_INL_HPP
#define KDLIB_BACKEND_CUDA_ROUTING_BODY_INL_HPP

#include "kdlib/backend/concepts.hpp"
#include "kdlib/backend/cuda/block.hpp"
#include "kdlib/core/math.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// A logit's place in the order of experts: larger first, equal ones by lower id, NaN last.
template <class C>
struct RoutedLogit {
  C value;
  std::int32_t id;  // -1: none

  KDLIB_HOST_DEVICE bool before(const RoutedLogit& o) const {
    if (id < 0 || o.id < 0) return id >= 0;
    const bool nan = value != value, other_nan = o.value != o.value;
    if (nan || other_nan) return nan == other_nan ? id < o.id : other_nan;
    return value != o.value ? value > o.value : id < o.id;
  }
};

/// Largest and log-sum-exp of a token's logits, in double, for every lane.
template <class B, class T>
KDLIB_HOST_DEVICE double router_log_sum(B& block, const T* z, std::int64_t count, std::int64_t lane) {
  using C = accumulate_t<T>;
  C top = static_cast<C>(z[0]);
  for (std::int64_t e = lane; e < count; e += warp_threads) top = max(top, static_cast<C>(z[e]));
  top = reduce_warp(block, top, [](C& a, const C& b) { a = max(a, b); });
  double sum = 0;
  for (std::int64_t e = lane; e < count; e += warp_threads) sum += exp(static_cast<double>(static_cast<C>(z[e]) - top));
  sum = sum_of_warp(block, sum);
  return static_cast<double>(top) + log(sum);
}

/// Chooses K experts a token (`choose`), or takes those of `ids`, and gives their weights.
template <class T>
struct RouteTokens {
  using C = accumulate_t<T>;
  static constexpr int threads = 256;
  const T* logits;
  std::int64_t n, experts, active;
  bool over_chosen, choose;
  std::int32_t* ids;
  T* weights;

  template <class B>
  KDLIB_HOST_DEVICE void operator()(B& block) const {
    const std::int64_t token = warp_row(block), lane = warp_lane(block);
    if (token >= n) return;
    const T* const z = logits + token * experts;
    std::int32_t* const mine = ids + token * active;
    if (choose) {
      RoutedLogit<C> last{C(0), -1};
      for (std::int64_t j = 0; j < active; ++j) {
        RoutedLogit<C> best{C(0), -1};
        for (std::int64_t e = lane; e < experts; e += warp_threads) {
          const RoutedLogit<C> one{static_cast<C>(z[e]), static_cast<std::int32_t>(e)};
          if ((last.id < 0 || last.before(one)) && one.before(best)) best = one;
        }
        last = reduce_warp(block, best, [](RoutedLogit<C>& a, const RoutedLogit<C>& b) {
          if (b.before(a)) a = b;
        });
        if (lane == 0) mine[j] = last.id;
      }
      block.warp_barrier();  // every lane reads the ids below
    }
    C top = static_cast<C>(z[mine[0]]), sum = 0;
    for (std::int64_t j = 1; j < active; ++j) top = max(top, static_cast<C>(z[mine[j]]));
    for (std::int64_t j = 0; j < active; ++j) sum += exp(static_cast<C>(z[mine[j]]) - top);
    if (!over_chosen) sum = static_cast<C>(exp(router_log_sum(block, z, experts, lane) - static_cast<double>(top)));
    for (std::int64_t j = lane; j < active; j += warp_threads)
      weights[token * active + j] = T(exp(static_cast<C>(z[mine[j]]) - top) / sum);
  }
};

template <class T>
struct RouteGradient {
  using C = accumulate_t<T>;
  static constexpr int threads = 256;
  const T* logits;
  const std::int32_t* ids;
  const T* weights;
  const T* weights_gradient;
  std::int64_t n, experts, active;
  bool over_chosen;
  T* logits_gradient;

  template <class B>
  KDLIB_HOST_DEVICE void operator()(B& block) const {
    const std::int64_t token = warp_row(block), lane = warp_lane(block);
    if (token >= n) return;
    const T* const z = logits + token * experts;
    const T* const w = weights + token * active;
    const T* const dw = weights_gradient + token * active;
    C mean = 0;
    for (std::int64_t j = 0; j < active; ++j) mean += static_cast<C>(w[j]) * static_cast<C>(dw[j]);
    const double log_sum = over_chosen ? 0 : router_log_sum(block, z, experts, lane);
    for (std::int64_t e = lane; e < experts; e += warp_threads) {
      C d = over_chosen ? C(0) : -mean * static_cast<C>(exp(static_cast<double>(static_cast<C>(z[e])) - log_sum));
      for (std::int64_t j = 0; j < active; ++j)
        if (ids[token * active + j] == e)
          d += static_cast<C>(w[j]) * (static_cast<C>(dw[j]) - (over_chosen ? mean : C(0)));
      logits_gradient[token * experts + e] = T(d);
    }
  }
};

/// partial[chunk] = counts [E], probabilities [E] and the sum of squared log-sum-exps of 64 tokens, in order.
template <class T>
struct RouterPartials {
  using C = accumulate_t<T>;
  static constexpr int threads = 256;
  static constexpr std::int64_t chunk = 64;
  const T* logits;
  const std::int32_t* ids;
  std::int64_t n, experts, active;
  double* partial;  // [chunks, 2 E + 1]

  template <class B>
  KDLIB_HOST_DEVICE void operator()(B& block) const {
    const std::int64_t first = block.block() * chunk, rows = n - first < chunk ? n - first : chunk;
    const std::int64_t warp = block.thread() / warp_threads, lane = block.thread() % warp_threads;
    const auto sums = block.template shared<double>(0, chunk);
    for (std::int64_t i = warp; i < rows; i += block.size() / warp_threads) {
      const double sum = router_log_sum(block, logits + (first + i) * experts, experts, lane);
      if (lane == 0) sums[i] = sum;
    }
    block.barrier();
    double* const out = partial + block.block() * (2 * experts + 1);
    for (std::int64_t e = block.thread(); e < experts; e += block.size()) {
      double count = 0, probability = 0;
      for (std::int64_t i = 0; i < rows; ++i) {
        probability += exp(static_cast<double>(static_cast<C>(logits[(first + i) * experts + e])) - sums.read(i));
        for (std::int64_t j = 0; j < active; ++j) count += ids[(first + i) * active + j] == e ? 1 : 0;
      }
      out[e] = count, out[experts + e] = probability;
    }
    if (block.thread() == 0) {
      double squares = 0;
      for (std::int64_t i = 0; i < rows; ++i) squares += sums.read(i) * sums.read(i);
      out[2 * experts] = squares;
    }
  }
};

template <class T>
struct RouterSumsGradient {
  using C = accumulate_t<T>;
  static constexpr int threads = 256;
  const T* logits;
  std::int64_t n, experts;
  const double* counts;
  double push, square;
  T* logits_gradient;

  template <class B>
  KDLIB_HOST_DEVICE void operator()(B& block) const {
    const std::int64_t token = warp_row(block), lane = warp_lane(block);
    if (token >= n) return;
    const T* const z = logits + token * experts;
    const double sum = router_log_sum(block, z, experts, lane);
    double mean = 0;
    for (std::int64_t e = lane; e < experts; e += warp_threads)
      mean += counts[e] * push * exp(static_cast<double>(static_cast<C>(z[e])) - sum);
    mean = sum_of_warp(block, mean);
    for (std::int64_t e = lane; e < experts; e += warp_threads) {
      const double p = exp(static_cast<double>(static_cast<C>(z[e])) - sum);
      T& to = logits_gradient[token * experts + e];
      to = T(static_cast<C>(to) + static_cast<C>(p * (counts[e] * push - mean + 2 * square * sum)));
    }
  }
};

/// ids[i] = given[i] where that is not -1.
struct TakeKnown {
  const std::int32_t* given;
  std::int32_t* ids;

  KDLIB_HOST_DEVICE void operator()(std::int64_t i) const {
    if (given[i] != -1) ids[i] = given[i];
  }
};

constexpr std::int64_t group_chunk = 1024;  // choices that one block looks at

/// counts[chunk, e] = choices of e in the chunk.
struct CountChoices {
  static constexpr int threads = 256;
  const std::int32_t* ids;
  std::int64_t choices, experts;
  std::int64_t* counts;

  template <class B>
  KDLIB_HOST_DEVICE void operator()(B& block) const {
    const std::int64_t first = block.block() * group_chunk;
    for (std::int64_t e = block.thread(); e < experts; e += block.size()) {
      std::int64_t count = 0;
      for (std::int64_t i = first; i < first + group_chunk && i < choices; ++i) count += ids[i] == e ? 1 : 0;
      counts[block.block() * experts + e] = count;
    }
  }
};
/// One block: offsets [E + 1], and counts become the first place of each chunk and expert.
struct ScanChoices {
  static constexpr int threads = 256;
  std::int64_t chunks, experts;
  std::int64_t* counts;
  std::int64_t* offsets;

  template <class B>
  KDLIB_HOST_DEVICE void operator()(B& block) const {
    const auto totals = block.template shared<std::int64_t>(0, experts);
    for (std::int64_t e = block.thread(); e < experts; e += block.size()) {
      std::int64_t sum = 0;
      for (std::int64_t c = 0; c < chunks; ++c) sum += counts[c * experts + e];
      totals[e] = sum;
    }
    block.barrier();
    if (block.thread() == 0) {
      std::int64_t sum = 0;
      for (std::int64_t e = 0; e < experts; ++e) {
        const std::int64_t mine = totals[e];
        offsets[e] = sum, totals[e] = sum;
        sum += mine;
      }
      offsets[experts] = sum;
    }
    block.barrier();
    for (std::int64_t e = block.thread(); e < experts; e += block.size()) {
      std::int64_t next = totals[e];
      for (std::int64_t c = 0; c < chunks; ++c) {
        const std::int64_t mine = counts[c * experts + e];
        counts[c * experts + e] = next;
        next += mine;
      }
    }
  }
};
/// token [R] and place [N, K]: tokens in order inside an expert.
struct PlaceChoices {
  static constexpr int threads = 256;
  const std::int32_t* ids;
  std::int64_t choices, experts, active;
  const std::int64_t* first_places;  // [chunks, E]
  std::int64_t* token;
  std::int64_t* place;

  template <class B>
  KDLIB_HOST_DEVICE void operator()(B& block) const {
    const std::int64_t first = block.block() * group_chunk;
    for (std::int64_t e = block.thread(); e < experts; e += block.size()) {
      std::int64_t next = first_places[block.block() * experts + e];
      for (std::int64_t i = first; i < first + group_chunk && i < choices; ++i) {
        if (ids[i] != e) continue;
        place[i] = next;
        token[next++] = i / active;
      }
    }
  }
};

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
