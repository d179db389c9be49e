// SPDX-License-Identifier: Apache-2.0
// Moments divided among ranks (ZeRO-1): a rank updates its own parameters and gives the new values to the others.
// Source: Rajbhandari et al., "ZeRO: Memory Optimizations Toward Training Trillion Parameter Models" (arXiv
// 1910.02054).
#ifndef KDLIB_TRAIN_OPTIMIZER_SHARD_HPP
#define KDLIB_TRAIN_OPTIMIZER_SHARD_HPP

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "kdlib/core/communicator.hpp"
#include "kdlib/train/host_tensors.hpp"

KDLIB_NAMESPACE_BEGIN

/// Where each of `ranks` runs of neighbours begins, and the end: [ranks + 1]. The largest run is as small as it can be
/// where nothing is divided. `sizes`: elements of each parameter. ConfigError: more ranks than parameters.
std::vector<std::size_t> divided_evenly(std::span<const std::int64_t> sizes, int ranks);

namespace detail {

/// This rank's share of what is trained. Every rank calls each function that talks to others.
template <class T, class D>
class OptimizerShard {
 public:
  /// ConfigError as divided_evenly.
  OptimizerShard(AnyCommunicator communicator, std::vector<Parameter<T, D>*> trained);

  /// First and end of this rank's, among all that is trained.
  std::pair<std::size_t, std::size_t> own() const { return {bounds_[rank()], bounds_[rank() + 1]}; }
  /// Behind an update: every rank gets the new values of the others' parameters.
  void share_values();
  /// The tensors of all ranks, in their order.
  std::vector<HostTensor> gather(const std::vector<HostTensor>& mine);

 private:
  std::size_t rank() const { return static_cast<std::size_t>(communicator_.rank()); }

  AnyCommunicator communicator_;
  std::vector<Parameter<T, D>*> trained_;
  std::vector<std::size_t> bounds_;
};

}  // namespace detail
KDLIB_NAMESPACE_END

#include "kdlib/train/optimizer_shard_inl.hpp"
#if KDLIB_HEADER_ONLY
#include "kdlib/train/divided_evenly_inl.hpp"
#endif

#endif
