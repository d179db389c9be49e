// SPDX-License-Identifier: Apache-2.0
#include "kdlib/tensor/token_batch.hpp"

#include <cmath>

#include "support/catch.hpp"

using namespace kdlib;

TEST_CASE("left and right padding pack to the same batch", "[tensor]") {
  const std::vector<std::int64_t> right{5, 6, 7, 0, 8, 9, 0, 0}, right_mask{1, 1, 1, 0, 1, 1, 0, 0};
  const std::vector<std::int64_t> left{0, 5, 6, 7, 0, 0, 8, 9}, left_mask{0, 1, 1, 1, 0, 0, 1, 1};
  const TokenBatch a = TokenBatch::from_padded(right, right_mask, 2, 4),
                   b = TokenBatch::from_padded(left, left_mask, 2, 4);
  CHECK(a.ids == b.ids);
  CHECK(a.offsets == b.offsets);
  CHECK(a.ids == std::vector<std::int32_t>{5, 6, 7, 8, 9});
  CHECK(a.weights == std::vector<float>{1, 1, 0, 1, 0});  // the last token of a document predicts nothing
}

TEST_CASE("C14: one counted token of the answer gives exactly one row, at the token before it", "[tensor]") {
  TokenBatch batch;
  const std::int32_t first[] = {10, 11, 12}, second[] = {20, 21, 22, 23};
  const float none[] = {0, 0, 0}, one[] = {0, 0, 1, 0};  // the token after index 2 of the second document counts: id 23
  batch.append(first, none);
  batch.append(second, one);
  const TokenBatch::Rows rows = batch.rows();
  REQUIRE(rows.token == std::vector<std::int64_t>{5});
  CHECK(rows.label == std::vector<std::int32_t>{23});
  CHECK(batch.weight() == 1.0);
}

TEST_CASE("C15: documents of one token have no rows and do no harm", "[tensor]") {
  TokenBatch batch;
  const std::int32_t a[] = {1}, b[] = {2, 3};
  batch.append(a);
  batch.append(b);
  CHECK(batch.rows().token == std::vector<std::int64_t>{1});
  CHECK(batch.documents() == 2);
  CHECK(batch.length(0) == 1);
}

TEST_CASE("broken batches are refused with their numbers", "[tensor]") {
  TokenBatch batch;
  CHECK_THROWS_AS(batch.append(std::span<const std::int32_t>{}), InputError);
  const std::int32_t ids[] = {1, 99};
  batch.append(ids);
  CHECK_NOTHROW(batch.check(100));
  CHECK_THROWS_AS(batch.check(99), InputError);
  batch.weights[0] = std::nanf("");
  CHECK_THROWS_AS(batch.check(100), InputError);
  batch.weights.pop_back();
  CHECK_THROWS_AS(batch.check(100), ShapeError);
}
