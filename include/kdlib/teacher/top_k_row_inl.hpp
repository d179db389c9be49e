// SPDX-License-Identifier: Apache-2.0
// Bodies of top_k_row.hpp.
#ifndef KDLIB_TEACHER_TOP_K_ROW_INL_HPP
#define KDLIB_TEACHER_TOP_K_ROW_INL_HPP

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <type_traits>

#include "kdlib/core/sampling.hpp"
#include "kdlib/teacher/top_k_row.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

struct RankedLogit {
  double logit;
  std::int32_t id;
  /// More probable; of equals the lower id.
  bool operator<(const RankedLogit& o) const { return logit != o.logit ? logit > o.logit : id < o.id; }
};

/// Whether one of 16 floats is above `least`.
inline bool any_above(const float* z, float least) {
  Lanes4 x[4];
  std::memcpy(x, z, sizeof x);
  const auto above = (x[0] > least) | (x[1] > least) | (x[2] > least) | (x[3] > least);
  return (above[0] | above[1] | above[2] | above[3]) != 0;
}

/// No NaN and no infinity: 0 times any of those is NaN.
template <class T>
bool all_finite(std::span<const T> x) {
  std::size_t i = 0;
  Lanes4 sums[4] = {};
  if constexpr (std::is_same_v<T, float>)
    for (; i + 16 <= x.size(); i += 16)
      for (std::size_t k = 0; k < 4; ++k) {
        Lanes4 four;
        std::memcpy(&four, &x[i + 4 * k], sizeof four);
        sums[k] += four * 0.0f;
      }
  const Lanes4 sum = (sums[0] + sums[1]) + (sums[2] + sums[3]);
  bool finite = sum[0] + sum[1] + sum[2] + sum[3] == 0;
  for (; i < x.size(); ++i) finite &= std::isfinite(static_cast<double>(x[i]));
  return finite;
}

/// Puts those of the logits [begin, end) that are among the K largest so far into a heap whose top is the worst of
/// those kept, so that most logits cost a comparison.
template <class T>
void keep_largest(std::span<const T> logits, std::size_t begin, std::size_t end, std::int64_t top_k,
                  std::vector<RankedLogit>& heap) {
  for (std::size_t i = begin; i < end; ++i) {
    const bool full = static_cast<std::int64_t>(heap.size()) == top_k;
    if constexpr (std::is_same_v<T, float>)
      while (full && i + 16 <= end && !any_above(&logits[i], static_cast<float>(heap.front().logit))) i += 16;
    if (i == end) break;
    const auto z = static_cast<double>(logits[i]);
    if (full && z <= heap.front().logit) continue;  // an equal one has a higher id
    if (full) {
      std::pop_heap(heap.begin(), heap.end());
      heap.pop_back();
    }
    heap.push_back({z, static_cast<std::int32_t>(i)});
    std::push_heap(heap.begin(), heap.end());
  }
}

/// The K largest logits, best first, or nothing where a logit is not finite. One pass over the memory of the row: a
/// block is looked at twice while the nearest cache holds it.
template <class T>
std::vector<RankedLogit> largest_logits(std::span<const T> logits, std::int64_t top_k) {
  constexpr std::size_t block = 4096;
  std::vector<RankedLogit> heap;
  heap.reserve(static_cast<std::size_t>(top_k));
  for (std::size_t i = 0; i < logits.size(); i += block) {
    const std::size_t count = std::min(block, logits.size() - i);
    if (!all_finite(logits.subspan(i, count))) return {};
    keep_largest(logits, i, i + count, top_k, heap);
  }
  std::sort_heap(heap.begin(), heap.end());
  return heap;
}

constexpr std::size_t tail_block = 256;  // floats that 16 lanes add before the sum in double takes them

/// Fills `e` with exp((logits - most) / temperature) of at most a block, or where it holds those of twice the
/// temperature with their squares, and adds them to `sum`. Floats: exponentials to about 1e-7, added by 16 lanes.
template <class T, class Real>
void add_tail_weights(std::span<const T> logits, double most, double temperature, bool squares, Real* e, double& sum) {
  const auto inverse = static_cast<Real>(1 / temperature), largest = static_cast<Real>(most);
  if constexpr (std::is_same_v<Real, float>)
    if (logits.size() == tail_block) {
      Lanes4 lanes[4] = {};
      for (std::size_t k = 0; k < tail_block / 4; ++k) {
        Lanes4 x;
        if (squares) {
          std::memcpy(&x, e + 4 * k, sizeof x);
          x *= x;
        } else {
          if constexpr (std::is_same_v<T, float>) std::memcpy(&x, &logits[4 * k], sizeof x);
          else
            for (std::size_t l = 0; l < 4; ++l) x[l] = static_cast<float>(logits[4 * k + l]);
          x = exp_nonpositive(rounded_product(x - largest, inverse + Lanes4{}));
        }
        std::memcpy(e + 4 * k, &x, sizeof x);
        lanes[k % 4] += x;
      }
      for (const Lanes4& four : lanes)
        for (int l = 0; l < 4; ++l) sum += static_cast<double>(four[l]);
      return;
    }
  for (std::size_t i = 0; i < logits.size(); ++i) {
    e[i] = squares ? e[i] * e[i] : std::exp((static_cast<Real>(logits[i]) - largest) * inverse);
    sum += static_cast<double>(e[i]);
  }
}

/// sum_v exp((logits_v - most) / T) for each of the temperatures, in one pass over the row. exp(x / T) of the
/// temperature before, squared, is that of half of it: 2 and 1, in this order, cost one exponential.
template <class T>
std::vector<double> tail_sums(std::span<const T> logits, double most, std::span<const double> temperatures) {
  using Real = std::conditional_t<std::is_same_v<T, double>, double, float>;
  std::vector<double> sums(temperatures.size(), 0.0);
  Real e[tail_block];
  for (std::size_t i = 0; i < logits.size(); i += tail_block) {
    const auto block = logits.subspan(i, std::min(tail_block, logits.size() - i));
    for (std::size_t t = 0; t < temperatures.size(); ++t)
      add_tail_weights(block, most, temperatures[t], t > 0 && temperatures[t - 1] == 2 * temperatures[t], e, sums[t]);
  }
  return sums;
}

}  // namespace detail

template <class T>
TopKRow top_k_row(std::span<T> logits, std::int64_t top_k, std::span<const double> temperatures, std::int32_t label) {
  TopKRow out;
  const std::vector<detail::RankedLogit> best = detail::largest_logits(std::span<const T>(logits), top_k);
  out.finite = !best.empty();
  if (!out.finite) return out;
  const double most = best.front().logit, label_logit = static_cast<double>(logits[static_cast<std::size_t>(label)]);
  for (const detail::RankedLogit& x : best) logits[static_cast<std::size_t>(x.id)] = T(-3e38f);  // no part of the tail
  const std::size_t n = temperatures.size();
  std::vector<double> falling(temperatures.rbegin(), temperatures.rend());
  const auto one = std::find(falling.begin(), falling.end(), 1.0);
  const std::size_t at_one = static_cast<std::size_t>(one - falling.begin());
  if (one == falling.end()) falling.push_back(1);
  std::vector<double> tails = detail::tail_sums(std::span<const T>(logits), most, falling);
  const double tail_at_one = tails[at_one];
  tails.resize(n);
  std::reverse(tails.begin(), tails.end());
  double sum = tail_at_one;
  for (const detail::RankedLogit& x : best) sum += std::exp(x.logit - most);
  const double log_sum = std::log(sum);  // of exp(z - most)
  for (const detail::RankedLogit& x : best) {
    out.ids.push_back(x.id);
    out.log_probs.push_back(static_cast<float>(x.logit - most - log_sum));
  }
  out.label_log_prob = static_cast<float>(label_logit - most - log_sum);
  for (std::size_t t = 0; t < n; ++t) {
    double total = tails[t];
    for (const detail::RankedLogit& x : best) total += std::exp((x.logit - most) / temperatures[t]);
    out.log_norm.push_back(static_cast<float>(std::log(total) - log_sum / temperatures[t]));
    out.log_tail.push_back(tails[t] > 0 ? static_cast<float>(std::log(tails[t] / total))
                                        : -std::numeric_limits<float>::infinity());
  }
  return out;
}

KDLIB_NAMESPACE_END

#endif
