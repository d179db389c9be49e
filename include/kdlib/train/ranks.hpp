// SPDX-License-Identifier: Apache-2.0
// How several ranks share the steps of a run. A rank is one process of a job of several processes.
#ifndef KDLIB_TRAIN_RANKS_HPP
#define KDLIB_TRAIN_RANKS_HPP

#include <cstdint>

#include "kdlib/core/communicator.hpp"

KDLIB_NAMESPACE_BEGIN

/// The order in which the gradients of a step's micro-batches are added.
enum class Reduction : std::uint8_t {
  automatic,  // fast on one rank, tree on several ranks
  tree,  // each micro-batch gives a separate gradient, and these are added in one fixed binary tree: equal bits for
         // every number of ranks. With S micro-batches on W ranks this needs memory for log2(S / W) + 1 more gradients
  fast   // gradients are added in place, then rank by rank: the bits depend on the number of ranks
};

/// The ranks of a run. A step has the same micro-batches, in the same order, for every number of ranks; each rank forms
/// the gradients of some neighbouring micro-batches. Every rank must make the same student, source, objective and
/// settings. The first rank reads and writes the files (RankedStore, RankedSink).
struct RankSettings {
  AnyCommunicator communicator{};  // default: a single rank
  Reduction reduce = Reduction::automatic;
  /// Number of texts that the student writes side by side: the prompts of a step are cut into groups of this number,
  /// and group g is written by rank g mod W. 0: each rank writes the texts of its own micro-batches.
  std::int64_t write_batch = 0;
  /// ZeRO-1: each rank keeps only the moments of its part of the parameters, and the ranks exchange the updated values.
  /// The bits stay the same; the moments take 1 / W of the memory, and the traffic is 1.5 times as large. This works
  /// for optimizers that update each parameter from its own gradient alone.
  bool shard_optimizer = false;

  bool tree() const { return reduce == Reduction::tree || (reduce == Reduction::automatic && communicator.size() > 1); }
  /// True if steps go micro-batch by micro-batch; false if a step is the same as in a run without ranks.
  bool active() const { return tree() || communicator.size() > 1 || write_batch > 0; }
};

KDLIB_NAMESPACE_END

#endif
