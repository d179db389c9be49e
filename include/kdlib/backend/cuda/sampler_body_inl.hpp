// SPDX-License-Identifier: Apache-2.0
// The functor that draws a token for each row of logits: rollout/sampler_inl.hpp's steps, one block a row. Weights and
// sums without filters have the host's bits; the order of top-p's sums differs, so that a token may differ where the
// uniform number or a filter's edge lies within rounding.
#ifndef KDLIB_BACKEND_CUDA_SAMPLER_BODY_INL_HPP
#define KDLIB_BACKEND_CUDA_SAMPLER_BODY_INL_HPP

#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>

#include "kdlib/backend/cuda/block.hpp"
#include "kdlib/core/dtype.hpp"
#include "kdlib/core/sampling.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Numbers whose order is that of floats; both zeros are equal.
KDLIB_HOST_DEVICE inline std::uint32_t float_order(float x) {
  std::uint32_t bits;
  x = x == 0 ? 0.0f : x;
  std::memcpy(&bits, &x, sizeof bits);
  return bits >> 31 != 0 ? ~bits : bits | 0x80000000u;
}
KDLIB_HOST_DEVICE inline float float_of_order(std::uint32_t order) {
  const std::uint32_t bits = order >> 31 != 0 ? order & 0x7fffffffu : ~order;
  float x;
  std::memcpy(&x, &bits, sizeof x);
  return x;
}

/// The largest logit of a row and its lowest id.
struct LargestLogit {
  float value;
  std::int32_t id, broken;  // broken: NaN or +inf was met

  KDLIB_HOST_DEVICE void add(const LargestLogit& o) {
    if (o.value > value || (o.value == value && o.id < id)) value = o.value, id = o.id;
    broken |= o.broken;
  }
};

/// One row, as the threads of its block see it.
template <class T, class B>
struct SampledLogits {
  static constexpr std::int64_t block_width = 256;  // ids whose weights are summed together, as on the host

  B& block;
  const T* logits;
  std::int64_t columns, sums_count;
  double* sums;  // [sums_count] of this row
  float largest = 0, inverse = 1;
  SamplingCutoff cutoff{};

  KDLIB_HOST_DEVICE float logit(std::int64_t i) const { return static_cast<float>(logits[i]); }
  KDLIB_HOST_DEVICE float weight(std::int64_t i) const {
    return exp_nonpositive(rounded_product(logit(i) - largest, inverse));
  }
  KDLIB_HOST_DEVICE float kept_weight(std::int64_t i) const {
    return cutoff.keeps(static_cast<double>(logit(i)), i) ? weight(i) : 0.0f;
  }
  KDLIB_HOST_DEVICE std::int64_t end_of(std::int64_t b) const {
    const std::int64_t end = (b + 1) * block_width;
    return end < columns ? end : columns;
  }

  KDLIB_HOST_DEVICE LargestLogit find_largest() {
    LargestLogit mine{-std::numeric_limits<float>::infinity(), std::numeric_limits<std::int32_t>::max(), 0};
    for (std::int64_t i = block.thread(); i < columns; i += block.size()) {
      const float x = logit(i);
      const bool broken = !(x < std::numeric_limits<float>::infinity());
      mine.add({broken ? mine.value : x, static_cast<std::int32_t>(i), broken ? 1 : 0});
    }
    return reduce_block(block, mine, 0, [](LargestLogit& a, const LargestLogit& b) { a.add(b); });
  }

  /// The total of the block sums, which thread 0 adds in their order.
  KDLIB_HOST_DEVICE double total_of_sums() {
    block.barrier();
    double total = 0;
    if (block.thread() == 0)
      for (std::int64_t b = 0; b < sums_count; ++b) total += sums[b];
    return sum_of_block(block, total);
  }

  /// Block sums of all weights, each added in the host's 16 lanes by half a warp.
  KDLIB_HOST_DEVICE double weigh_all() {
    const std::int64_t lane = block.thread() % 16, group = block.thread() / 16, groups = block.size() / 16;
    const int first_lane = static_cast<int>(block.thread() % warp_threads / 16 * 16);
    for (std::int64_t b0 = 0; b0 < sums_count; b0 += groups) {
      const std::int64_t b = b0 + group;
      const bool here = b < sums_count;
      const std::int64_t begin = b * block_width, end = here ? end_of(b) : begin,
                         whole = begin + (end - begin) / 16 * 16;
      float mine = 0;
      for (std::int64_t i = begin + lane; i < whole; i += 16) mine += weight(i);
      double sum = 0;
      for (std::int64_t i = whole; i < end; ++i) sum += static_cast<double>(weight(i));
      for (int k = 0; k < 16; ++k) sum += static_cast<double>(block.shuffle(mine, first_lane + k));
      if (here && lane == 0) sums[b] = sum;
    }
    return total_of_sums();
  }

  /// Block sums of the weights that the cutoff keeps.
  KDLIB_HOST_DEVICE double weigh_kept() {
    block.barrier();
    for (std::int64_t b = block.thread(); b < sums_count; b += block.size()) {
      double sum = 0;
      for (std::int64_t i = b * block_width; i < end_of(b); ++i) sum += static_cast<double>(kept_weight(i));
      sums[b] = sum;
    }
    return total_of_sums();
  }

  /// The sum over the row of f(i).
  template <class F>
  KDLIB_HOST_DEVICE double sum_over(F f) {
    double mine = 0;
    for (std::int64_t i = block.thread(); i < columns; i += block.size()) mine += f(i);
    return sum_of_block(block, mine);
  }

  /// The largest number whose tokens at or above it reach `target`, where reached(order) falls; 0: none does.
  template <class F>
  KDLIB_HOST_DEVICE std::uint32_t highest_order(double target, F reached) {
    std::uint32_t found = 0;
    for (int bit = 31; bit >= 0; --bit) {
      const std::uint32_t next = found | std::uint32_t{1} << bit;
      if (reached(next) >= target) found = next;
    }
    return found;
  }

  KDLIB_HOST_DEVICE void keep_top_k(std::int64_t k) {
    const std::uint32_t order = highest_order(static_cast<double>(k), [&](std::uint32_t least) {
      return sum_over([&](std::int64_t i) { return float_order(logit(i)) >= least ? 1.0 : 0.0; });
    });
    cutoff.logit = static_cast<double>(float_of_order(order));
  }

  /// The cutoff up to which the likeliest tokens reach `target` mass; what is lighter than `negligible` or below the
  /// floor cannot be needed.
  KDLIB_HOST_DEVICE SamplingCutoff mass_cutoff(double target, float negligible, const SamplingCutoff& floor) {
    const auto mass_of = [&](std::int64_t i) {
      const float w = kept_weight(i);
      return w > negligible && floor.keeps(static_cast<double>(logit(i)), i) ? static_cast<double>(w) : 0.0;
    };
    const auto mass_from = [&](std::uint32_t least) {
      return sum_over([&](std::int64_t i) { return float_order(logit(i)) >= least ? mass_of(i) : 0.0; });
    };
    const double all = mass_from(0);
    const std::uint32_t order = highest_order(all < target ? all : target, mass_from);
    const double above = mass_from(order + 1);
    const auto equals = [&](std::int64_t i, std::int64_t last) {
      return i <= last && float_order(logit(i)) == order ? 1.0 : 0.0;
    };
    const double count = sum_over([&](std::int64_t i) { return equals(i, columns); });
    const float value = float_of_order(order);
    const auto each = static_cast<double>(exp_nonpositive(rounded_product(value - largest, inverse)));
    double needed = 0, mass = above;
    do mass += each, ++needed;
    while (mass < target && needed < count);
    SamplingCutoff found{static_cast<double>(value), std::numeric_limits<std::int32_t>::max()};
    if (needed >= count) return found;
    // The id of the last one that is needed: the lowest with so many equals up to it.
    std::int64_t low = 0, high = columns - 1;
    while (low < high) {
      const std::int64_t middle = low + (high - low) / 2;
      if (sum_over([&](std::int64_t i) { return equals(i, middle); }) >= needed) high = middle;
      else low = middle + 1;
    }
    found.id = static_cast<std::int32_t>(low);
    return found;
  }

  /// The first id at which the running sum of kept weights passes `target`. For one thread.
  KDLIB_HOST_DEVICE std::int64_t invert(double target) const {
    double sum = 0;
    for (std::int64_t b = 0; b < sums_count; ++b) {
      if (sum + sums[b] > target) {
        double running = sum;
        for (std::int64_t i = b * block_width; i < end_of(b); ++i) {
          const float w = kept_weight(i);
          running += static_cast<double>(w);
          if (running > target && w > 0) return i;
        }
      }
      sum += sums[b];
    }
    std::int64_t last = columns - 1;
    while (last > 0 && !(kept_weight(last) > 0)) --last;
    return last;
  }
};

/// One row a block.
template <class T>
struct SampleTokens {
  static constexpr int threads = 256;
  SampleRule rule;
  float inverse;  // 1 / temperature
  double floor;   // temperature * log(min_p), below the largest logit
  const T* logits;
  std::int64_t columns, sums_count;
  const double* uniform;  // [rows]
  double* sums;           // [rows, sums_count]
  SampledRow* out;        // [rows]
  std::int32_t* next;     // [rows] or nullptr

  template <class B>
  KDLIB_HOST_DEVICE void operator()(B& block) const {
    const std::int64_t r = block.block();
    SampledLogits<T, B> row{block, logits + r * columns, columns, sums_count, sums + r * sums_count};
    const LargestLogit best = row.find_largest();
    if (best.broken != 0 || !(best.value > -std::numeric_limits<float>::infinity())) {
      if (block.thread() == 0) put(r, {0, 0, 0, best.broken != 0 ? SampledRow::not_finite : SampledRow::nothing});
      return;
    }
    row.largest = best.value;
    double log_total = 0;
    if (rule.temperature != 1) log_total = log(row.weigh_all());  // of the whole softmax at temperature 1
    if (rule.temperature == 0) {
      if (block.thread() == 0) put(r, {best.id, 0, static_cast<float>(-log_total), SampledRow::fine});
      return;
    }
    row.inverse = inverse;
    double kept = row.weigh_all();
    if (rule.temperature == 1) log_total = log(kept);
    if (rule.truncates()) kept = truncate(row, kept);
    if (block.thread() != 0) return;
    const std::int64_t id = row.invert(uniform[r] * kept);
    const double below = static_cast<double>(row.logit(id)) - static_cast<double>(row.largest);
    put(r, {static_cast<std::int32_t>(id), static_cast<float>(below / rule.temperature - log(kept)),
            static_cast<float>(below - log_total), SampledRow::fine});
  }

 private:
  KDLIB_HOST_DEVICE void put(std::int64_t r, const SampledRow& row) const {
    out[r] = row;
    if (next != nullptr) next[r] = row.id;
  }

  /// Applies the filters and returns the mass that stays.
  template <class B>
  KDLIB_HOST_DEVICE double truncate(SampledLogits<T, B>& row, double total) const {
    if (rule.top_k > 0 && rule.top_k < columns) {
      row.keep_top_k(rule.top_k);
      total = row.weigh_kept();
    }
    SamplingCutoff least;
    if (rule.min_p > 0) least.logit = static_cast<double>(row.largest) + floor;
    if (rule.top_p < 1) {
      const auto negligible = static_cast<float>(0.5 * (1 - rule.top_p) * total / static_cast<double>(columns));
      const SamplingCutoff mass = row.mass_cutoff(rule.top_p * total, negligible, least);
      row.cutoff.tighten(mass);
    }
    row.cutoff.tighten(least);
    return row.weigh_kept();
  }
};

}  // namespace detail
KDLIB_NAMESPACE_END

#endif
