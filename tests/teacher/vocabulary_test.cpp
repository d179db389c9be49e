// SPDX-License-Identifier: Apache-2.0
// Teacher and student must speak of the same tokens.
#include "kdlib/teacher/vocabulary.hpp"
#include "support/catch.hpp"
#include "support/shared.hpp"

using namespace kdlib;

TEST_CASE("models without tokenizers need equal numbers of rows", "[teacher]") {
  REQUIRE(common_vocabulary({320, nullptr}, {320, nullptr}) == 320);
  REQUIRE_THROWS_AS(common_vocabulary({320, nullptr}, {321, nullptr}), ConfigError);
  REQUIRE_THROWS_WITH(common_vocabulary({320, nullptr}, {321, nullptr}),
                      contains("320 rows and no tokenizer") && contains("321 rows") && contains("one family"));
}

TEST_CASE("equal tokenizers share their ids however the heads are padded, different ones are refused by name and hash",
          "[teacher]") {
  const Tokenizer a = Tokenizer::from_pretrained(kdlib_tests::reference_file("text/smollm2.tokenizer.json"));
  const Tokenizer again = Tokenizer::from_pretrained(kdlib_tests::reference_file("text/smollm2.tokenizer.json"));
  const Tokenizer b = Tokenizer::from_pretrained(kdlib_tests::reference_file("text/qwen3.tokenizer.json"));
  const std::int64_t ids = a.vocab_size();
  REQUIRE(common_vocabulary({ids, &a}, {ids, &again}) == ids);
  REQUIRE(common_vocabulary({ids + 64, &a}, {ids + 128, &again}) == ids);
  REQUIRE(common_vocabulary({ids + 64, &a}, {ids + 64, &again}) == ids + 64);
  const std::int64_t rows = b.vocab_size();
  REQUIRE_THROWS_WITH(common_vocabulary({rows, &b}, {rows, &a}),
                      contains("qwen3") && contains("smollm2") && contains("hash"));
}

TEST_CASE("a tokenizer with more ids than the model has rows is refused", "[teacher]") {
  const Tokenizer a = Tokenizer::from_pretrained(kdlib_tests::reference_file("text/smollm2.tokenizer.json"));
  REQUIRE_NOTHROW(check_tokenizer_fits(a, a.vocab_size()));
  REQUIRE_THROWS_WITH(check_tokenizer_fits(a, 320), contains("320 rows") && contains("belongs to the model"));
  REQUIRE_THROWS_AS(common_vocabulary({320, &a}, {320, nullptr}), ConfigError);
}
