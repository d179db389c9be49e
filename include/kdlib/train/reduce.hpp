// SPDX-License-Identifier: Apache-2.0
// Adds the gradients of the micro-batches of a step in one fixed binary tree, whichever rank computed them. The result
// has equal bits for every number of ranks. The leaves of the tree are the micro-batches.
#ifndef KDLIB_TRAIN_REDUCE_HPP
#define KDLIB_TRAIN_REDUCE_HPP

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "kdlib/core/communicator.hpp"

KDLIB_NAMESPACE_BEGIN

/// Returns the leaves [begin, end) of rank number `rank` of `ranks`. The numbers of leaves of two ranks differ by at
/// most one. ConfigError: there are more ranks than leaves.
std::pair<std::int64_t, std::int64_t> leaves_of_rank(std::int64_t leaves, int rank, int ranks);

/// A subtree of the tree over `leaves` leaves. It covers the existing leaves in [index << level, (index + 1) << level).
/// The tree has the shape for the next power of two; if the right half of a node has no leaf, the node equals its left
/// half, without an addition.
struct TreeNode {
  int level = 0;
  std::int64_t index = 0;

  friend bool operator==(const TreeNode&, const TreeNode&) = default;
};

/// Pushes `node` on a stack of neighbouring subtrees and merges complete pairs. For each pair, `merge()` must add the
/// values of the last node to those of the node before it, which then stands for both.
template <class Merge>
void push_node(std::vector<TreeNode>& stack, TreeNode node, std::int64_t leaves, Merge&& merge);

/// Returns the largest subtrees that cover leaves [begin, end): at most two for each level.
std::vector<TreeNode> subtrees(std::int64_t begin, std::int64_t end, std::int64_t leaves);

/// Sums vectors of `size` numbers over all leaves. Each rank adds its own leaves (leaves_of_rank) in order:
///   TreeSum<float> tree(communicator, S, size);
///   for (leaf of mine) tree.add(leaf_values);
///   tree.finish(out);      // on every rank: the sum over all leaves
/// With S leaves and W ranks the object holds log2(S / W) + 1 vectors, or up to twice as many if W is not a power of
/// two.
template <class A>
class TreeSum {
 public:
  /// ConfigError: there are more ranks than leaves.
  TreeSum(AnyCommunicator communicator, std::int64_t leaves, std::int64_t size);

  /// Adds the next leaf of this rank. ConfigError: the rank has no more leaves, or `values` does not have `size`
  /// numbers.
  void add(std::span<const A> values);
  /// Writes the sum over all leaves to `out` [size] and empties the tree for the next sum. ConfigError: leaves of this
  /// rank are missing.
  void finish(std::span<A> out);

  std::int64_t size() const { return size_; }

 private:
  void finish_part(std::int64_t begin, std::int64_t count, std::span<A> out);
  void add_all(std::span<A> to, std::span<const A> from) const;

  AnyCommunicator communicator_;
  std::int64_t leaves_, size_, begin_ = 0, end_ = 0, next_ = 0;
  std::vector<std::vector<TreeNode>> nodes_of_rank_;  // subtrees of each rank when all its leaves are added
  std::size_t most_nodes_ = 0;
  std::vector<TreeNode> stack_;
  std::vector<std::vector<A>> values_, spare_;  // values of the stack's nodes; memory that can be used again
  std::vector<A> send_, received_;              // for one part of at most reduce_part numbers
};

/// Number of elements that are sent at once (25 MiB of floats).
inline constexpr std::int64_t reduce_part = 25 * (std::int64_t{1} << 18);

/// Number of elements whose squares block_norm adds as one block.
inline constexpr std::int64_t norm_block = 4096;

/// Returns the Euclidean norm. The squares are added in double, in blocks of norm_block elements, and then block by
/// block in order.
template <class A>
double block_norm(std::span<const A> values);

KDLIB_NAMESPACE_END

#include "kdlib/train/reduce_inl.hpp"
#if KDLIB_HEADER_ONLY
#include "kdlib/train/reduce_tree_inl.hpp"
#endif

#endif
