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
  Lanes4 sum{};
  if constexpr (std::is_same_v<T, float>)
    for (; i + 4 <= x.size(); i += 4) {
      Lanes4 four;
      std::memcpy(&four, &x[i], sizeof four);
      sum += four * 0.0f;
    }
  bool finite = sum[0] + sum[1] + sum[2] + sum[3] == 0;
  for (; i < x.size(); ++i) finite &= std::isfinite(static_cast<double>(x[i]));
  return finite;
}

/// The K largest logits, best first: a heap whose top is the worst of those kept, so that most logits cost a
/// comparison.
template <class T>
std::vector<RankedLogit> largest_logits(std::span<const T> logits, std::int64_t top_k) {
  std::vector<RankedLogit> heap;
  heap.reserve(static_cast<std::size_t>(top_k));
  for (std::size_t i = 0; i < logits.size(); ++i) {
    const bool full = static_cast<std::int64_t>(heap.size()) == top_k;
    if constexpr (std::is_same_v<T, float>)
      while (full && i + 16 <= logits.size() && !any_above(&logits[i], static_cast<float>(heap.front().logit))) i += 16;
    if (i == logits.size()) break;
    const auto z = static_cast<double>(logits[i]);
    if (full && z <= heap.front().logit) continue;  // an equal one has a higher id
    if (full) {
      std::pop_heap(heap.begin(), heap.end());
      heap.pop_back();
    }
    heap.push_back({z, static_cast<std::int32_t>(i)});
    std::push_heap(heap.begin(), heap.end());
  }
  std::sort_heap(heap.begin(), heap.end());
  return heap;
}

/// Fills `e` with exp((logits - most) / temperature), or where it holds those of twice the temperature with their
/// squares, and answers the sum. Floats: exponentials to about 1e-7, added by 16 lanes in blocks of 256.
template <class T, class Real>
double tail_weights(std::span<const T> logits, double most, double temperature, bool squares, std::vector<Real>& e) {
  const auto inverse = static_cast<Real>(1 / temperature), largest = static_cast<Real>(most);
  double sum = 0;
  std::size_t i = 0;
  if constexpr (std::is_same_v<Real, float>) {
    constexpr std::size_t block = 256;
    for (; i + block <= e.size(); i += block) {
      Lanes4 lanes[4] = {};
      for (std::size_t k = 0; k < block / 4; ++k) {
        Lanes4 x;
        if (squares) {
          std::memcpy(&x, &e[i + 4 * k], sizeof x);
          x *= x;
        } else {
          if constexpr (std::is_same_v<T, float>) std::memcpy(&x, &logits[i + 4 * k], sizeof x);
          else
            for (std::size_t l = 0; l < 4; ++l) x[l] = static_cast<float>(logits[i + 4 * k + l]);
          x = exp_nonpositive(rounded_product(x - largest, inverse + Lanes4{}));
        }
        std::memcpy(&e[i + 4 * k], &x, sizeof x);
        lanes[k % 4] += x;
      }
      for (const Lanes4& four : lanes)
        for (int l = 0; l < 4; ++l) sum += static_cast<double>(four[l]);
    }
  }
  for (; i < e.size(); ++i) {
    e[i] = squares ? e[i] * e[i] : std::exp((static_cast<Real>(logits[i]) - largest) * inverse);
    sum += static_cast<double>(e[i]);
  }
  return sum;
}

}  // namespace detail

template <class T>
TopKRow top_k_row(std::span<T> logits, std::int64_t top_k, std::span<const double> temperatures, std::int32_t label) {
  using Real = std::conditional_t<std::is_same_v<T, double>, double, float>;
  TopKRow out;
  out.finite = detail::all_finite(std::span<const T>(logits));
  if (!out.finite) return out;
  const std::vector<detail::RankedLogit> best = detail::largest_logits(std::span<const T>(logits), top_k);
  const double most = best.front().logit, label_logit = static_cast<double>(logits[static_cast<std::size_t>(label)]);
  for (const detail::RankedLogit& x : best) logits[static_cast<std::size_t>(x.id)] = T(-3e38f);  // no part of the tail
  const std::size_t n = temperatures.size();
  std::vector<double> tails(n, 0.0);
  double tail_at_one = 0;
  // exp(x / T) of the temperature before, squared, is that of half of it: 1 and 2 cost one exponential.
  std::vector<Real> e(logits.size());
  const auto sum_tail = [&](double temperature, bool squares) {
    return detail::tail_weights(std::span<const T>(logits), most, temperature, squares, e);
  };
  double before = 0;
  for (std::size_t t = n; t-- > 0;) {
    tails[t] = sum_tail(temperatures[t], before == 2 * temperatures[t]);
    before = temperatures[t];
    if (temperatures[t] == 1) tail_at_one = tails[t];
  }
  if (std::find(temperatures.begin(), temperatures.end(), 1.0) == temperatures.end())
    tail_at_one = sum_tail(1, before == 2);
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
