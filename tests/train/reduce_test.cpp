// SPDX-License-Identifier: Apache-2.0
// The tree over slices: the same bits for every number of ranks, and the tree that it is said to be.
#include "kdlib/train/reduce.hpp"

#include <cmath>
#include <mutex>

#include "kdlib/core/rng.hpp"
#include "kdlib/train/optimizer_shard.hpp"
#include "support/catch.hpp"

namespace {

float value_of(std::int64_t leaf, std::int64_t i) {
  const kdlib::Rng rng(3, kdlib::RngPurpose::test, static_cast<std::uint32_t>(leaf));
  const double x = rng.uniform(static_cast<std::uint32_t>(i)) - 0.5;
  return static_cast<float>(std::ldexp(x, static_cast<int>(rng.below(static_cast<std::uint32_t>(i + 1000), 20))));
}

std::vector<float> leaf_values(std::int64_t leaf, std::int64_t size) {
  std::vector<float> out;
  for (std::int64_t i = 0; i < size; ++i) out.push_back(value_of(leaf, i));
  return out;
}

/// The definition, by recursion from the root.
float tree_sum(std::int64_t begin, std::int64_t width, std::int64_t leaves, std::int64_t i) {
  if (width == 1) return value_of(begin, i);
  const float left = tree_sum(begin, width / 2, leaves, i);
  return begin + width / 2 >= leaves ? left : left + tree_sum(begin + width / 2, width / 2, leaves, i);
}

std::vector<float> by_ranks(int ranks, std::int64_t leaves, std::int64_t size) {
  std::vector<float> first;
  std::mutex mutex;
  bool equal = true;
  kdlib::run_ranks(ranks, [&](kdlib::ThreadCommunicator c) {
    kdlib::TreeSum<float> tree(c, leaves, size);
    std::vector<float> out(static_cast<std::size_t>(size));
    for (int round = 0; round < 2; ++round) {  // the second sum finds an empty tree
      const auto [begin, end] = kdlib::leaves_of_rank(leaves, c.rank(), ranks);
      for (std::int64_t leaf = begin; leaf < end; ++leaf) tree.add(leaf_values(leaf, size));
      tree.finish(out);
    }
    const std::lock_guard<std::mutex> lock(mutex);
    if (first.empty()) first = out;
    equal = equal && first == out;
  });
  CHECK(equal);
  return first;
}

}  // namespace

TEST_CASE("the sum has the same bits for 1 to 8 ranks and is the tree of its definition", "[reduce]") {
  constexpr std::int64_t size = 37;
  for (const std::int64_t leaves : {1, 2, 3, 5, 6, 7, 8, 11, 13, 16}) {
    std::int64_t width = 1;
    while (width < leaves) width *= 2;
    std::vector<float> right;
    for (std::int64_t i = 0; i < size; ++i) right.push_back(tree_sum(0, width, leaves, i));
    for (int ranks = 1; ranks <= std::min<std::int64_t>(8, leaves); ++ranks) {
      INFO(leaves << " leaves, " << ranks << " ranks");
      CHECK(by_ranks(ranks, leaves, size) == right);
    }
  }
}

TEST_CASE("adding slices in order gives other bits: the tree is seen by these numbers", "[reduce]") {
  int different = 0;
  const std::vector<float> tree = by_ranks(1, 8, 37);
  for (std::int64_t i = 0; i < 37; ++i) {
    float sum = 0;
    for (std::int64_t leaf = 0; leaf < 8; ++leaf) sum += value_of(leaf, i);
    different += sum != tree[static_cast<std::size_t>(i)];
  }
  CHECK(different > 0);
}

TEST_CASE("more ranks than slices, a leaf too many and a missing one are refused", "[reduce]") {
  CHECK_THROWS_AS(kdlib::run_ranks(3, [](kdlib::ThreadCommunicator c) { kdlib::TreeSum<float>(c, 2, 4); }),
                  kdlib::ConfigError);
  kdlib::TreeSum<float> tree({}, 2, 1);
  const std::vector<float> one{1};
  std::vector<float> out(1);
  tree.add(one);
  CHECK_THROWS_AS(tree.finish(out), kdlib::ConfigError);
  tree.add(one);
  CHECK_THROWS_AS(tree.add(one), kdlib::ConfigError);
  tree.finish(out);
  CHECK(out[0] == 2);
}

TEST_CASE("subtrees of neighbouring leaves are the largest there are", "[reduce]") {
  using Nodes = std::vector<kdlib::TreeNode>;
  CHECK(kdlib::subtrees(0, 8, 8) == Nodes{{3, 0}});
  CHECK(kdlib::subtrees(2, 5, 8) == Nodes{{1, 1}, {0, 4}});
  CHECK(kdlib::subtrees(5, 8, 8) == Nodes{{0, 5}, {1, 3}});
  CHECK(kdlib::subtrees(4, 5, 5) == Nodes{{2, 1}});  // nothing stands to the right of leaf 4
  CHECK(kdlib::subtrees(0, 5, 5) == Nodes{{3, 0}});
}

TEST_CASE("the norm by blocks is that of one sum up to rounding", "[reduce]") {
  const std::vector<float> values = leaf_values(0, 3 * kdlib::norm_block + 5);
  long double sum = 0;
  for (const float x : values) sum += static_cast<long double>(x) * x;
  const double norm = kdlib::block_norm(std::span<const float>(values));
  CHECK(std::abs(norm / static_cast<double>(std::sqrt(sum)) - 1) < 1e-13);
  CHECK(kdlib::block_norm(std::span<const float>()) == 0);
}

TEST_CASE("parameters are divided into runs of neighbours of which none is larger than it must be", "[train][ranks]") {
  using Bounds = std::vector<std::size_t>;
  const std::vector<std::int64_t> sizes{5, 1, 1, 1, 8, 2, 2};
  CHECK(kdlib::divided_evenly(sizes, 1) == Bounds{0, 7});
  CHECK(kdlib::divided_evenly(sizes, 2) == Bounds{0, 4, 7});
  CHECK(kdlib::divided_evenly(sizes, 3) == Bounds{0, 4, 5, 7});
  CHECK(kdlib::divided_evenly(sizes, 7) == Bounds{0, 1, 2, 3, 4, 5, 6, 7});
  CHECK(kdlib::divided_evenly(std::vector<std::int64_t>{9, 1, 1, 1}, 4) == Bounds{0, 1, 2, 3, 4});
  CHECK_THROWS_AS(kdlib::divided_evenly(sizes, 8), kdlib::ConfigError);
}
