// SPDX-License-Identifier: Apache-2.0
// Bodies of reduce.hpp.
#ifndef KDLIB_TRAIN_REDUCE_INL_HPP
#define KDLIB_TRAIN_REDUCE_INL_HPP

#include <algorithm>
#include <cmath>
#include <tuple>

#include "kdlib/core/parallel.hpp"
#include "kdlib/train/reduce.hpp"

KDLIB_NAMESPACE_BEGIN

template <class Merge>
void push_node(std::vector<TreeNode>& stack, TreeNode node, std::int64_t leaves, Merge&& merge) {
  stack.push_back(node);
  for (;;) {
    TreeNode& top = stack.back();
    if (top.index % 2 == 1 && stack.size() >= 2) {
      TreeNode& left = stack[stack.size() - 2];
      if (left == TreeNode{top.level, top.index - 1}) {
        merge();
        left = {top.level + 1, top.index / 2};
        stack.pop_back();
        continue;
      }
    }
    const bool root = (std::int64_t{1} << top.level) >= leaves;
    if (root || top.index % 2 == 1 || ((top.index + 1) << top.level) < leaves) return;
    top = {top.level + 1, top.index / 2};  // nothing stands to its right
  }
}

template <class A>
TreeSum<A>::TreeSum(AnyCommunicator communicator, std::int64_t leaves, std::int64_t size)
    : communicator_(std::move(communicator)), leaves_(leaves), size_(size) {
  const int ranks = communicator_.size();
  for (int r = 0; r < ranks; ++r) {
    const auto [begin, end] = leaves_of_rank(leaves, r, ranks);
    nodes_of_rank_.push_back(subtrees(begin, end, leaves));
    most_nodes_ = std::max(most_nodes_, nodes_of_rank_.back().size());
  }
  std::tie(begin_, end_) = leaves_of_rank(leaves, communicator_.rank(), ranks);
  next_ = begin_;
}

template <class A>
void TreeSum<A>::add_all(std::span<A> to, std::span<const A> from) const {
  parallel_for(static_cast<std::int64_t>(to.size()), 1 << 15, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) to[static_cast<std::size_t>(i)] += from[static_cast<std::size_t>(i)];
  });
}

template <class A>
void TreeSum<A>::add(std::span<const A> values) {
  require<ConfigError>(next_ < end_ && static_cast<std::int64_t>(values.size()) == size_, "[ranks] leaf ", next_,
                       " of leaves ", begin_, " to ", end_, " with ", values.size(), " numbers; ", size_,
                       " are expected");
  if (spare_.empty()) spare_.emplace_back(static_cast<std::size_t>(size_));
  values_.push_back(std::move(spare_.back()));
  spare_.pop_back();
  std::copy(values.begin(), values.end(), values_.back().begin());
  push_node(stack_, {0, next_++}, leaves_, [this] {
    add_all(values_[values_.size() - 2], values_.back());
    spare_.push_back(std::move(values_.back()));
    values_.pop_back();
  });
}

template <class A>
void TreeSum<A>::finish(std::span<A> out) {
  require<ConfigError>(next_ == end_, "[ranks] leaf ", next_, " of leaves ", begin_, " to ", end_, " is missing");
  if (communicator_.size() == 1) {
    std::copy(values_.front().begin(), values_.front().end(), out.begin());
  } else {
    for (std::int64_t begin = 0; begin < size_; begin += reduce_part) {
      const std::int64_t count = std::min(reduce_part, size_ - begin);
      finish_part(begin, count, out.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(count)));
    }
  }
  for (std::vector<A>& values : values_) spare_.push_back(std::move(values));
  values_.clear();
  stack_.clear();
  next_ = begin_;
}

/// Elements [begin, begin + count): each rank completes the tree for its block of them, and all gather the blocks.
template <class A>
void TreeSum<A>::finish_part(std::int64_t begin, std::int64_t count, std::span<A> out) {
  const int ranks = communicator_.size();
  const auto n = static_cast<std::size_t>(ranks);
  const auto block = static_cast<std::size_t>((count + ranks - 1) / ranks), all = block * n;
  send_.resize(all);
  received_.resize(all * most_nodes_);
  for (std::size_t k = 0; k < most_nodes_; ++k) {
    if (k < values_.size()) std::copy_n(values_[k].begin() + static_cast<std::ptrdiff_t>(begin), count, send_.begin());
    communicator_.exchange(std::as_bytes(std::span(send_)),
                           std::as_writable_bytes(std::span(received_).subspan(k * all, all)));
  }
  std::vector<TreeNode> stack;
  std::vector<std::span<A>> values;
  for (std::size_t r = 0; r < n; ++r)
    for (std::size_t k = 0; k < nodes_of_rank_[r].size(); ++k) {
      values.push_back(std::span(received_).subspan(k * all + r * block, block));
      push_node(stack, nodes_of_rank_[r][k], leaves_, [&] {
        add_all(values[values.size() - 2], values.back());
        values.pop_back();
      });
    }
  communicator_.gather_all(std::as_bytes(values.front()), std::as_writable_bytes(std::span(send_)));
  std::copy_n(send_.begin(), count, out.begin());
}

template <class A>
double block_norm(std::span<const A> values) {
  const auto size = static_cast<std::int64_t>(values.size());
  std::vector<double> sums(static_cast<std::size_t>((size + norm_block - 1) / norm_block), 0.0);
  parallel_for(static_cast<std::int64_t>(sums.size()), 16, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t b = begin; b < end; ++b) {
      double sum = 0;
      for (std::int64_t i = b * norm_block; i < std::min((b + 1) * norm_block, size); ++i) {
        const auto x = static_cast<double>(values[static_cast<std::size_t>(i)]);
        sum += x * x;
      }
      sums[static_cast<std::size_t>(b)] = sum;
    }
  });
  double total = 0;
  for (const double sum : sums) total += sum;
  return std::sqrt(total);
}

KDLIB_NAMESPACE_END

#endif
