// SPDX-License-Identifier: Apache-2.0
// Masks and the shift by one: which row learns which token.
#include <numeric>
#include <vector>

#include "kdlib/data/conversations.hpp"
#include "support/catch.hpp"

using namespace kdlib;
using Ids = std::vector<std::int32_t>;
using Mask = std::vector<std::uint8_t>;

TEST_CASE("one token of response receives exactly one row, the one before it (C14)", "[data][C14]") {
  const Ids ids = {10, 11, 12, 13, 14};
  for (std::size_t i = 0; i < ids.size(); ++i) {
    Mask mask(ids.size(), 0);
    mask[i] = 1;
    TokenBatch batch;
    batch.append(ids, row_weights(mask));
    const TokenBatch::Rows rows = batch.rows();
    if (i == 0) {  // the first token is never predicted
      REQUIRE(rows.token.empty());
      continue;
    }
    REQUIRE(rows.token == std::vector<std::int64_t>{static_cast<std::int64_t>(i) - 1});
    REQUIRE(rows.label == Ids{ids[i]});
    REQUIRE(batch.weight() == 1);
  }
}

TEST_CASE("the first end token counts, what follows it does not, also where padding is the end token (C19)",
          "[data][C19]") {
  const Ids ends = {2};
  //             prompt    answer        pad == end
  const Ids ids = {5, 2, 6, 7, 8, 2, /**/ 2, 2, 2};
  REQUIRE(answer_mask(ids, 3, ends) == Mask{0, 0, 0, 1, 1, 1, 0, 0, 0});
  REQUIRE(answer_end(ids, 3, ends) == 6);
  // The end token of the prompt at index 1 is no end of the answer; two end ids: whichever is first.
  REQUIRE(answer_mask(ids, 3, Ids{2, 7}) == Mask{0, 0, 0, 1, 0, 0, 0, 0, 0});
  REQUIRE(answer_mask(ids, 3, Ids{99}) == Mask{0, 0, 0, 1, 1, 1, 1, 1, 1});
  REQUIRE(answer_mask(ids, 3, Ids{}) == Mask{0, 0, 0, 1, 1, 1, 1, 1, 1});
  // The answer is the end token alone.
  REQUIRE(answer_mask(ids, 5, ends) == Mask{0, 0, 0, 0, 0, 1, 0, 0, 0});
}

TEST_CASE("the row that predicts the end token counts and the rows behind it do not (C19)", "[data][C19]") {
  const Ids ids = {5, 6, 7, 2, 2, 2};
  TokenBatch batch;
  batch.append(ids, row_weights(answer_mask(ids, 2, Ids{2})));
  REQUIRE(batch.rows().token == std::vector<std::int64_t>{1, 2});
  REQUIRE(batch.rows().label == Ids{7, 2});
}

TEST_CASE("masks of length 0 and 1, answers of length 0 and whole (C15)", "[data][C15]") {
  REQUIRE(row_weights(Mask{}).empty());
  REQUIRE(row_weights(Mask{1}) == std::vector<float>{0});
  REQUIRE(row_weights(Mask{1, 1}) == std::vector<float>{1, 0});
  const Ids ids = {4, 5};
  REQUIRE(answer_mask(ids, 2, Ids{5}) == Mask{0, 0});
  REQUIRE(answer_mask(ids, 0, Ids{9}) == Mask{1, 1});
  REQUIRE(answer_mask(Ids{}, 0, Ids{9}).empty());
  REQUIRE_THROWS_AS(answer_mask(ids, 3, Ids{}), ShapeError);
}

TEST_CASE("the last 0 elements are none, not all (C15)", "[data][C15]") {
  const Ids ids = {1, 2, 3};
  const std::span<const std::int32_t> all(ids);
  REQUIRE(last_of(all, 0).empty());
  REQUIRE(last_of(all, 1)[0] == 3);
  REQUIRE(last_of(all, 3).size() == 3);
  REQUIRE_THROWS_AS(last_of(all, 4), ShapeError);
}
