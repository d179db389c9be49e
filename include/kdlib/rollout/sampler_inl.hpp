// SPDX-License-Identifier: Apache-2.0
// Bodies of sampler.hpp. All filters become one cutoff in the order (logit falling, id rising), so nothing is sorted as
// a whole.
#ifndef KDLIB_ROLLOUT_SAMPLER_INL_HPP
#define KDLIB_ROLLOUT_SAMPLER_INL_HPP

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>
#include <limits>
#include <type_traits>

#include "kdlib/core/dtype.hpp"
#include "kdlib/core/math.hpp"
#include "kdlib/core/sampling.hpp"
#include "kdlib/rollout/sampler.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {

constexpr std::int64_t sampler_block = 256;

/// Weights of `count` <= 4 logits; the other lanes are those of logits at the maximum.
template <class T>
Lanes4 sampling_weights(const T* logits, std::int64_t count, T largest, T inverse_temperature) {
  Lanes4 x{};
  if constexpr (std::is_same_v<T, float>) {
    if (count == 4) {
      std::memcpy(&x, logits, sizeof x);
      return exp_nonpositive(rounded((x - largest) * inverse_temperature));
    }
  }
  for (std::int64_t k = 0; k < count; ++k)
    x[k] = static_cast<float>(rounded((logits[k] - largest) * inverse_temperature));
  return exp_nonpositive(x);
}

/// Writes the weights of [begin, end) (at most one block) and returns their sum, added in 16 lanes.
template <class T>
double weigh_block(const T* logits, std::int64_t begin, std::int64_t end, T largest, T inverse_temperature,
                   float* weights) {
  Lanes4 lanes[4] = {};
  const std::int64_t whole = begin + (end - begin) / 16 * 16;
  for (std::int64_t i = begin; i < whole; i += 16)
    for (int k = 0; k < 4; ++k) {
      const Lanes4 w = sampling_weights(logits + i + 4 * k, 4, largest, inverse_temperature);
      if (weights != nullptr) std::memcpy(weights + i + 4 * k, &w, sizeof w);
      lanes[k] += w;
    }
  double sum = 0;
  for (std::int64_t i = whole; i < end; i += 4) {
    const std::int64_t count = std::min<std::int64_t>(4, end - i);
    const Lanes4 w = sampling_weights(logits + i, count, largest, inverse_temperature);
    for (std::int64_t k = 0; k < count; ++k) {
      if (weights != nullptr) weights[i + k] = w[k];
      sum += static_cast<double>(w[k]);
    }
  }
  for (const Lanes4& four : lanes)
    for (int k = 0; k < 4; ++k) sum += static_cast<double>(four[k]);
  return sum;
}

void check_drawable(bool finite, bool any);

/// The largest logit and its lowest id; refuses what no distribution can be made of.
template <class T>
std::int64_t largest_logit(std::span<const T> logits) {
  require<ShapeError>(!logits.empty(), "[sample] the row has no logits");
  const T* x = logits.data();
  const auto count = static_cast<std::int64_t>(logits.size());
  T best = -std::numeric_limits<T>::infinity();
  bool broken = false;
  for (std::int64_t i = 0; i < count; ++i) {
    best = x[i] > best ? x[i] : best;
    broken |= !(x[i] < std::numeric_limits<T>::infinity());
  }
  check_drawable(!broken, best > -std::numeric_limits<T>::infinity());
  return std::find(x, x + count, best) - x;
}

/// The k-th largest logit. A heap of k while k is small: most tokens then cost one comparison.
template <class T>
double kth_largest(std::span<const T> logits, std::int64_t k, std::vector<double>& values) {
  const auto greater = std::greater<double>();
  values.clear();
  if (k <= 512) {
    for (const T x : logits) {
      const auto value = static_cast<double>(x);
      if (static_cast<std::int64_t>(values.size()) < k) {
        values.push_back(value);
        std::push_heap(values.begin(), values.end(), greater);
      } else if (value > values.front()) {
        std::pop_heap(values.begin(), values.end(), greater);
        values.back() = value;
        std::push_heap(values.begin(), values.end(), greater);
      }
    }
    return values.front();
  }
  values.assign(logits.begin(), logits.end());
  std::nth_element(values.begin(), values.begin() + (k - 1), values.end(), greater);
  return values[static_cast<std::size_t>(k - 1)];
}

/// The last token of the ranking that is needed to reach `target` mass. Halves the range by nth_element; sorts only the
/// last few.
SamplingCutoff rank_by_mass(std::vector<SamplerWorkspace::Candidate>& c, double target);

/// Sums of the kept weights, block by block; what is cut gets weight 0.
template <class T>
double cut_weights(std::span<const T> logits, const SamplingCutoff& cutoff, SamplerWorkspace& w) {
  const auto count = static_cast<std::int64_t>(logits.size());
  double total = 0;
  for (std::int64_t begin = 0, block = 0; begin < count; begin += sampler_block, ++block) {
    double sum = 0;
    for (std::int64_t i = begin; i < std::min(begin + sampler_block, count); ++i) {
      float& weight = w.weights[static_cast<std::size_t>(i)];
      if (!cutoff.keeps(static_cast<double>(logits[static_cast<std::size_t>(i)]), i)) weight = 0;
      sum += static_cast<double>(weight);
    }
    w.block_sums[static_cast<std::size_t>(block)] = sum;
    total += sum;
  }
  return total;
}

/// Applies top-k, top-p and min-p to the weights (total mass `total`) and returns the mass that stays.
template <class T>
double truncate_weights(const Sampler& s, std::span<const T> logits, double largest, double total,
                        SamplerWorkspace& w) {
  const auto count = static_cast<std::int64_t>(logits.size());
  SamplingCutoff cutoff;
  if (s.top_k > 0 && s.top_k < count) {
    cutoff.logit = kth_largest(logits, s.top_k, w.values);
    total = cut_weights(logits, cutoff, w);
  }
  SamplingCutoff floor;
  if (s.min_p > 0) floor.logit = largest + rounded(s.temperature.value() * std::log(s.min_p));
  if (s.top_p < 1) {
    // Tokens lighter than this have less than (1 - p) of the mass together: top-p keeps none of them. Nor can what
    // min-p cuts be needed.
    const auto negligible = static_cast<float>(0.5 * (1 - s.top_p) * total / static_cast<double>(count));
    w.candidates.clear();
    for (std::int64_t i = 0; i < count; ++i) {
      const float weight = w.weights[static_cast<std::size_t>(i)];
      if (weight <= negligible) continue;
      const auto logit = static_cast<double>(logits[static_cast<std::size_t>(i)]);
      if (floor.keeps(logit, i)) w.candidates.push_back({logit, static_cast<std::int32_t>(i), weight});
    }
    cutoff.tighten(rank_by_mass(w.candidates, s.top_p * total));
  }
  cutoff.tighten(floor);
  return cut_weights(logits, cutoff, w);
}

/// The first id at which the running sum of the weights passes `target`; the last one with a weight where rounding
/// hides it.
std::int64_t invert_distribution(const SamplerWorkspace& w, std::int64_t count, double target);

/// Fills weights and block sums and returns their total.
template <class T>
double weigh_row(std::span<const T> logits, T largest, double temperature, SamplerWorkspace& w) {
  const auto count = static_cast<std::int64_t>(logits.size());
  w.weights.resize(logits.size());
  w.block_sums.resize(static_cast<std::size_t>((count + sampler_block - 1) / sampler_block));
  double total = 0;
  // Finite for the smallest temperatures too: 0 * infinity would make the weight of the largest logit NaN.
  const T inverse = static_cast<T>(std::min(1.0 / temperature, static_cast<double>(std::numeric_limits<T>::max())));
  for (std::int64_t begin = 0, block = 0; begin < count; begin += sampler_block, ++block) {
    const double sum =
        weigh_block(logits.data(), begin, std::min(begin + sampler_block, count), largest, inverse, w.weights.data());
    w.block_sums[static_cast<std::size_t>(block)] = sum;
    total += sum;
  }
  return total;
}

/// log(sum exp(logit - largest)) at temperature 1.
template <class T>
double log_sum(std::span<const T> logits, T largest) {
  const auto count = static_cast<std::int64_t>(logits.size());
  double total = 0;
  for (std::int64_t begin = 0; begin < count; begin += sampler_block)
    total += weigh_block(logits.data(), begin, std::min(begin + sampler_block, count), largest, T{1},
                         static_cast<float*>(nullptr));
  return std::log(total);
}

}  // namespace detail

template <class T>
SampledToken sample_token(const Sampler& sampler, std::span<const T> logits, double uniform,
                          SamplerWorkspace& workspace) {
  const std::int64_t best = detail::largest_logit(logits);
  const T largest = logits[static_cast<std::size_t>(best)];
  const auto full = [&](std::int64_t id, double log_total) {
    return static_cast<float>(static_cast<double>(logits[static_cast<std::size_t>(id)]) - static_cast<double>(largest) -
                              log_total);
  };
  if (sampler.greedy()) return {static_cast<std::int32_t>(best), 0.0f, full(best, detail::log_sum(logits, largest))};

  const double t = sampler.temperature.value();
  double kept = detail::weigh_row(logits, largest, t, workspace);
  const double log_total = t == 1 ? std::log(kept) : detail::log_sum(logits, largest);
  if (sampler.truncates())
    kept = detail::truncate_weights(sampler, logits, static_cast<double>(largest), kept, workspace);

  const std::int64_t id =
      detail::invert_distribution(workspace, static_cast<std::int64_t>(logits.size()), uniform * kept);
  const double exponent =
      (static_cast<double>(logits[static_cast<std::size_t>(id)]) - static_cast<double>(largest)) / t;
  return {static_cast<std::int32_t>(id), static_cast<float>(exponent - std::log(kept)), full(id, log_total)};
}

namespace detail {
template <class Rule>
Rule rule_of(const Sampler& s) {
  return {.temperature = s.temperature.value(), .top_k = s.top_k, .top_p = s.top_p, .min_p = s.min_p};
}
/// What a device drew; Error where it had nothing to draw.
template <class Row>
SampledToken token_of(const Row& row) {
  check_drawable(row.fault != Row::not_finite, row.fault != Row::nothing);
  return {row.id, row.log_prob, row.full_log_prob};
}
}  // namespace detail

template <class T, class D>
requires DrawsTokens<D, T> std::vector<SampledToken> sample_tokens(const Sampler& sampler, View<const T, D> logits,
                                                                   std::span<const double> uniform) {
  using K = Kernels<D, T>;
  require<ShapeError>(logits.rank() == 2 && logits[0] == static_cast<std::int64_t>(uniform.size()),
                      "[sample] logits are ", logits.shape(), " and there are ", uniform.size(),
                      " uniform numbers: one a row");
  std::vector<typename K::SampledRow> rows(uniform.size());
  K::sample_rows(detail::rule_of<typename K::SampleRule>(sampler), logits[0], logits[1], logits.data(), uniform.data(),
                 rows.data());
  std::vector<SampledToken> tokens;
  for (const auto& row : rows) tokens.push_back(detail::token_of(row));
  return tokens;
}

template <class T>
std::vector<double> sampling_distribution(const Sampler& sampler, std::span<const T> logits) {
  std::vector<double> out(logits.size(), 0.0);
  const std::int64_t best = detail::largest_logit(logits);
  if (sampler.greedy()) {
    out[static_cast<std::size_t>(best)] = 1;
    return out;
  }
  SamplerWorkspace w;
  const T largest = logits[static_cast<std::size_t>(best)];
  double kept = detail::weigh_row(logits, largest, sampler.temperature.value(), w);
  if (sampler.truncates()) kept = detail::truncate_weights(sampler, logits, static_cast<double>(largest), kept, w);
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = static_cast<double>(w.weights[i]) / kept;
  return out;
}

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/rollout/sampler_checks_inl.hpp"
#endif

#endif
