// SPDX-License-Identifier: Apache-2.0
// The shape of the tree of reduce.hpp.
#ifndef KDLIB_TRAIN_REDUCE_TREE_INL_HPP
#define KDLIB_TRAIN_REDUCE_TREE_INL_HPP

#include "kdlib/core/error.hpp"
#include "kdlib/train/reduce.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_FUNC std::pair<std::int64_t, std::int64_t> leaves_of_rank(std::int64_t leaves, int rank, int ranks) {
  require<ConfigError>(leaves >= ranks, "[ranks] ", ranks, " ranks share ", leaves,
                       " slices: a rank would have none; use fewer ranks, or more micro-batches a step");
  return {leaves * rank / ranks, leaves * (rank + 1) / ranks};
}

KDLIB_FUNC std::vector<TreeNode> subtrees(std::int64_t begin, std::int64_t end, std::int64_t leaves) {
  std::vector<TreeNode> stack;
  for (std::int64_t leaf = begin; leaf < end; ++leaf) push_node(stack, {0, leaf}, leaves, [] {});
  return stack;
}

KDLIB_NAMESPACE_END

#endif
