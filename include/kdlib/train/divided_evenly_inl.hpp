// SPDX-License-Identifier: Apache-2.0
// Which rank keeps the moments of which parameters (optimizer_shard.hpp).
#ifndef KDLIB_TRAIN_DIVIDED_EVENLY_INL_HPP
#define KDLIB_TRAIN_DIVIDED_EVENLY_INL_HPP

#include <algorithm>

#include "kdlib/core/error.hpp"
#include "kdlib/train/optimizer_shard.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {

/// The bounds of runs of at most `most` elements, filled from the left, where each of the ranks gets one at least.
/// Empty: so many ranks do not suffice.
KDLIB_FUNC std::vector<std::size_t> runs_of_at_most(std::span<const std::int64_t> sizes, std::size_t ranks,
                                                    std::int64_t most) {
  std::vector<std::size_t> bounds{0};
  std::int64_t sum = 0;
  for (std::size_t i = 0; i < sizes.size(); ++i) {
    // Also where as many are left as ranks that have none.
    if (i > bounds.back() && (sum + sizes[i] > most || sizes.size() - i < ranks + 1 - bounds.size())) {
      bounds.push_back(i);
      sum = 0;
    }
    if (sizes[i] > most || bounds.size() > ranks) return {};
    sum += sizes[i];
  }
  bounds.push_back(sizes.size());
  return bounds.size() == ranks + 1 ? bounds : std::vector<std::size_t>();
}

}  // namespace detail

KDLIB_FUNC std::vector<std::size_t> divided_evenly(std::span<const std::int64_t> sizes, int ranks) {
  const auto parts = static_cast<std::size_t>(ranks);
  require<ConfigError>(ranks >= 1 && parts <= sizes.size(), "[ranks] the moments of ", sizes.size(),
                       " parameters cannot be divided among ", ranks,
                       " ranks: each needs one at least; leave out shard_optimizer");
  std::int64_t low = *std::max_element(sizes.begin(), sizes.end()), high = 0;
  for (const std::int64_t size : sizes) high += size;
  while (low < high) {
    const std::int64_t middle = low + (high - low) / 2;
    if (detail::runs_of_at_most(sizes, parts, middle).empty()) low = middle + 1;
    else high = middle;
  }
  return detail::runs_of_at_most(sizes, parts, low);
}

KDLIB_NAMESPACE_END

#endif
