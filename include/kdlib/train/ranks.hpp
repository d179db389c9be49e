// SPDX-License-Identifier: Apache-2.0
// How several ranks share the steps of a run.
#ifndef KDLIB_TRAIN_RANKS_HPP
#define KDLIB_TRAIN_RANKS_HPP

#include <cstdint>

#include "kdlib/core/communicator.hpp"

KDLIB_NAMESPACE_BEGIN

/// In which order the gradients of a step's micro-batches are added.
enum class Reduction : std::uint8_t {
  automatic,  // one rank: fast; more: tree
  tree,  // each micro-batch alone, then one fixed binary tree: equal bits for every number of ranks, at log2(S / W) + 1
         // gradients more memory
  fast   // in place, rank by rank: equal bits for one number of ranks alone
};

/// Ranks of a run. A step has the same micro-batches, in the same order, for every number of ranks: rank r of W forms
/// the gradients of a run of neighbours of them. Every rank makes the same student, source, objective and settings; the
/// first reads and writes the files (RankedStore, RankedSink).
struct RankSettings {
  AnyCommunicator communicator{};  // one rank where it is left out
  Reduction reduce = Reduction::automatic;
  std::int64_t write_batch =
      0;  // texts that the student writes side by side: the step's prompts are cut into groups of
          // so many, group g is written by rank g mod W; 0: a micro-batch's prompts by its rank
  bool shard_optimizer = false;  // ZeRO-1: a rank keeps the moments of its part of the parameters alone, and the ranks
                                 // exchange updated values: the same bits, moments / W, 1.5 times the traffic. For
                                 // optimizers that update each parameter from its own gradient

  bool tree() const { return reduce == Reduction::tree || (reduce == Reduction::automatic && communicator.size() > 1); }
  /// Whether steps go slice by slice; else a step is that of a run without ranks.
  bool active() const { return tree() || communicator.size() > 1 || write_batch > 0; }
};

KDLIB_NAMESPACE_END

#endif
