// SPDX-License-Identifier: Apache-2.0
// The sum of the slices of a step as one fixed binary tree, whoever computed them: equal bits for every number of
// ranks.
#ifndef KDLIB_TRAIN_REDUCE_HPP
#define KDLIB_TRAIN_REDUCE_HPP

#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "kdlib/core/communicator.hpp"

KDLIB_NAMESPACE_BEGIN

/// Leaves [begin, end) of rank `rank` of `ranks`: neighbours, and as many as its neighbours have, up to one.
/// ConfigError: more ranks than leaves.
std::pair<std::int64_t, std::int64_t> leaves_of_rank(std::int64_t leaves, int rank, int ranks);

/// A subtree of the tree over `leaves` leaves: those in [index << level, (index + 1) << level) that exist. The tree is
/// that of the next power of two; a node whose right half has no leaf is its left half, without an addition.
struct TreeNode {
  int level = 0;
  std::int64_t index = 0;

  friend bool operator==(const TreeNode&, const TreeNode&) = default;
};

/// Adds `node` to a stack of subtrees that stand side by side and merges what is complete: `merge()` is to add the
/// values of the last node to those of the one before it, which then stands for both.
template <class Merge>
void push_node(std::vector<TreeNode>& stack, TreeNode node, std::int64_t leaves, Merge&& merge);

/// The largest subtrees within leaves [begin, end): at most two for each level.
std::vector<TreeNode> subtrees(std::int64_t begin, std::int64_t end, std::int64_t leaves);

/// Sums vectors of `size` numbers over `leaves` leaves, of which this rank adds its own (leaves_of_rank) in order:
///   TreeSum<float> tree(communicator, S, size);
///   for (leaf of mine) tree.add(leaf_values);
///   tree.finish(out);      // on every rank: the sum over all leaves
/// It holds log2(S / W) + 1 vectors (up to twice as many where W is no power of two).
template <class A>
class TreeSum {
 public:
  /// ConfigError: more ranks than leaves.
  TreeSum(AnyCommunicator communicator, std::int64_t leaves, std::int64_t size);

  /// The next leaf of this rank. ConfigError where it has no more.
  void add(std::span<const A> values);
  /// Empties the tree for the next sum. ConfigError where leaves of this rank are missing.
  void finish(std::span<A> out);

  std::int64_t size() const { return size_; }

 private:
  void finish_part(std::int64_t begin, std::int64_t count, std::span<A> out);
  void add_all(std::span<A> to, std::span<const A> from) const;

  AnyCommunicator communicator_;
  std::int64_t leaves_, size_, begin_ = 0, end_ = 0, next_ = 0;
  std::vector<std::vector<TreeNode>> nodes_of_rank_;  // when all leaves are there
  std::size_t most_nodes_ = 0;
  std::vector<TreeNode> stack_;
  std::vector<std::vector<A>> values_, spare_;  // of the stack's nodes; memory of earlier ones
  std::vector<A> send_, received_;              // of one part
};

/// Numbers that go over the wire at once, in elements: 25 MiB of floats.
inline constexpr std::int64_t reduce_part = 25 * (std::int64_t{1} << 18);

/// Elements whose squares are added as one block by block_norm; a multiple of it is what one rank owns.
inline constexpr std::int64_t norm_block = 4096;

/// The Euclidean norm: squares are added in double in blocks of norm_block elements, then block by block in order, so
/// that ranks may form the blocks and any of them the sum.
template <class A>
double block_norm(std::span<const A> values);

KDLIB_NAMESPACE_END

#include "kdlib/train/reduce_inl.hpp"
#if KDLIB_HEADER_ONLY
#include "kdlib/train/reduce_tree_inl.hpp"
#endif

#endif
