// SPDX-License-Identifier: Apache-2.0
// Divides the moments of the optimizer among ranks (ZeRO-1): a rank updates its own parameters and gives the new values
// to the others. Source: Rajbhandari et al., "ZeRO: Memory Optimizations Toward Training Trillion Parameter Models"
// (arXiv 1910.02054).
#ifndef KDLIB_TRAIN_OPTIMIZER_SHARD_HPP
#define KDLIB_TRAIN_OPTIMIZER_SHARD_HPP

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "kdlib/core/communicator.hpp"
#include "kdlib/train/host_tensors.hpp"

KDLIB_NAMESPACE_BEGIN

/// Divides parameters into `ranks` runs of neighbours and returns where each run begins, and the end: [ranks + 1].
/// `sizes` are the elements of each parameter; no parameter is split. The largest run is as small as possible.
/// ConfigError: there are more ranks than parameters.
std::vector<std::size_t> divided_evenly(std::span<const std::int64_t> sizes, int ranks);

namespace detail {

/// This rank's share of the trained parameters. Every rank must call share_values() and gather() together with the
/// others.
template <class T, class D>
class OptimizerShard {
 public:
  /// ConfigError as in divided_evenly.
  OptimizerShard(AnyCommunicator communicator, std::vector<Parameter<T, D>*> trained);

  /// Returns the first parameter of this rank and the end, as indices into the trained parameters.
  std::pair<std::size_t, std::size_t> own() const { return {bounds_[rank()], bounds_[rank() + 1]}; }
  /// To be called after an update: every rank receives the new values of the other ranks' parameters.
  void share_values();
  /// Returns the tensors of all ranks, in the order of ranks.
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
