// SPDX-License-Identifier: Apache-2.0
#include "kdlib/tensor/token_batch.hpp"

#include <cmath>
#include <string>
#include <vector>

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

namespace {

/// Two documents with everything a batch can carry.
TokenBatch full_batch(std::int32_t first_id) {
  TokenBatch batch;
  for (const std::int32_t length : {3, 2}) {
    std::vector<std::int32_t> ids;
    for (std::int32_t i = 0; i < length; ++i) ids.push_back(first_id++);
    batch.append(ids, std::vector<float>(ids.size(), 0.5f), std::vector<std::int32_t>(ids.size(), length));
  }
  batch.behaviour_log_probs = {-1, -2, -3, -4, -5};
  batch.positions = {7, 8, 9, 0, 5};
  batch.sources = {"a", "b"};
  batch.routing.tokens = 5, batch.routing.active = 2;
  batch.routing.ids = {{0, 1, 1, 0, 2, 3, 3, 2, 1, 2}, {3, 2, 1, 0, 0, 1, 2, 3, 0, 3}};
  return batch;
}

void check_same(const TokenBatch& a, const TokenBatch& b) {
  CHECK(a.ids == b.ids);
  CHECK(a.offsets == b.offsets);
  CHECK(a.weights == b.weights);
  CHECK(a.behaviour_log_probs == b.behaviour_log_probs);
  CHECK(a.positions == b.positions);
  CHECK(a.spans == b.spans);
  CHECK(a.sources == b.sources);
  CHECK(a.routing.tokens == b.routing.tokens);
  CHECK(a.routing.active == b.routing.active);
  CHECK(a.routing.ids == b.routing.ids);
}

}  // namespace

TEST_CASE("a document is a batch of its own with all that belongs to it, and batches append back to the whole",
          "[tensor]") {
  const TokenBatch whole = full_batch(10);
  const TokenBatch second = whole.document(1);
  CHECK(second.ids == std::vector<std::int32_t>{13, 14});
  CHECK(second.offsets == std::vector<std::int64_t>{0, 2});
  CHECK(second.weights == std::vector<float>{0.5f, 0});
  CHECK(second.behaviour_log_probs == std::vector<float>{-4, -5});
  CHECK(second.positions == std::vector<std::int32_t>{0, 5});
  CHECK(second.spans == std::vector<std::int32_t>{2, 2});
  CHECK(second.sources == std::vector<std::string>{"b"});
  CHECK(second.routing.ids == std::vector<std::vector<std::int32_t>>{{3, 2, 1, 2}, {2, 3, 0, 3}});
  second.check(100);
  TokenBatch again = whole.document(0);
  again.append(second);
  check_same(again, whole);
  check_same(whole.part(0, 2), whole);
  CHECK(whole.part(1, 0).tokens() == 0);
  CHECK_THROWS_AS(whole.document(2), ShapeError);
  CHECK_THROWS_AS(whole.part(-1, 1), ShapeError);
}

TEST_CASE("what only one of two batches has gets its default in the other, either way round", "[tensor]") {
  TokenBatch full = full_batch(10), plain;
  full.behaviour_log_probs.clear();
  plain.ids = {1, 2, 3, 4};
  plain.offsets = {0, 1, 4};
  TokenBatch a = full, b = plain;
  a.append(plain);
  b.append(full);
  a.check(100), b.check(100);
  check_same(a.part(0, 2), full);
  check_same(b.part(2, 2), full);
  for (const TokenBatch& rest : {a.part(2, 2), b.part(0, 2)}) {
    CHECK(rest.ids == plain.ids);
    CHECK(rest.weights == std::vector<float>{0, 1, 1, 0});
    CHECK(rest.positions == std::vector<std::int32_t>{0, 0, 1, 2});
    CHECK(rest.spans == std::vector<std::int32_t>{-1, -1, -1, -1});
    CHECK(rest.sources == std::vector<std::string>{"", ""});
    CHECK(rest.routing.ids == std::vector<std::vector<std::int32_t>>(2, std::vector<std::int32_t>(8, -1)));
  }
  TokenBatch twice = full;
  twice.append(twice);
  check_same(twice.part(2, 2), full);
  CHECK_THROWS_AS(full_batch(0).part(0, 1).append(plain), ShapeError);  // drawn with log-probs and without
  TokenBatch empty;
  empty.append(full);
  check_same(empty, full);
  full.append(std::vector<std::int32_t>{5, 6});
  CHECK(full.positions == std::vector<std::int32_t>{7, 8, 9, 0, 5, 0, 1});
  CHECK(full.sources.size() == 3);
}
