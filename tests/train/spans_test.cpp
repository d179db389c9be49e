// SPDX-License-Identifier: Apache-2.0
// Named spans with a denominator each: the specification's fixture, any micro-batch split, empty spans, refusals.
#include "kdlib/train/spans.hpp"
#include "loss/row_reference.hpp"

using namespace kdlib;
using namespace kdlib_tests;

namespace {
/// Logits of two entries whose cross-entropy of label 0 is `value`.
Row with_cross_entropy(double value) { return {0, std::log(std::expm1(value))}; }

template <class X>
std::span<const X> part(const std::vector<X>& v, std::size_t begin, std::size_t count) {
  return std::span<const X>(v).subspan(begin, count);
}
}  // namespace

TEST_CASE(
    "900 reasoning tokens of loss 2 and 100 final ones of loss 1 come to 3 with weights 1 and 1, in any micro-batches; "
    "their token mean is 1.9",
    "[train]") {
  std::vector<Row> rows;
  std::vector<std::int32_t> span_of_row, labels(1000, 0);
  for (int i = 0; i < 1000; ++i) {
    const bool final = i % 10 == 3;  // spread, so that every micro-batch holds another mix
    rows.push_back(with_cross_entropy(final ? 1 : 2));
    span_of_row.push_back(final ? 1 : 0);
  }
  const Logits<double> logits(rows);
  std::vector<double> whole;
  for (const std::size_t size : {1000u, 1u, 7u, 100u, 333u}) {
    SpanWeights spans({{"reasoning", 1}, {"final", 1}});
    spans.begin_step();
    for (std::size_t at = 0; at < 1000; at += size) spans.count(part(span_of_row, at, std::min(size, 1000 - at)));
    double sum = 0, token_sum = 0;
    std::vector<double> gradient;
    for (std::size_t at = 0; at < 1000; at += size) {
      const std::size_t n = std::min(size, 1000 - at);
      const auto numbers = part(span_of_row, at, n);
      const std::vector<float> w = spans.weights(numbers);
      std::vector<double> g(2 * n);
      const auto m = static_cast<std::int64_t>(n);
      const auto got = row_loss(CrossEntropy{}, logits.view().rows(static_cast<std::int64_t>(at), m), NoTargets{},
                                {.labels = part(labels, at, n), .weights = w}, 1.0, View<double, Cpu>(g.data(), {m, 2}),
                                {.row_values = true});
      spans.add(numbers, {}, got.row_values);
      sum += got.loss.sum;
      for (const double value : got.row_values) token_sum += value;
      gradient.insert(gradient.end(), g.begin(), g.end());
    }
    INFO("micro-batches of " << size);
    CHECK(token_sum / 1000 == Approx(1.9).epsilon(1e-12));
    CHECK(sum == Approx(3).epsilon(1e-7));  // weights are floats
    CHECK(spans.loss() == Approx(3).epsilon(1e-12));
    CHECK(spans.losses()[0].loss.mean() == Approx(2).epsilon(1e-12));
    CHECK(spans.losses()[1].loss.mean() == Approx(1).epsilon(1e-12));
    CHECK(spans.losses()[1].name == "final");
    CHECK(spans.losses()[1].loss.weight == 100);
    if (whole.empty()) whole = gradient;
    CHECK(gradient == whole);  // bit for bit: a row's weight does not depend on the split
  }
}

TEST_CASE("spans weigh rows by their own weights; rows in none and spans without rows add 0", "[train]") {
  SpanWeights spans({{"a", 2}, {"empty", 5}, {"b", 0.5}});
  const std::int32_t numbers[] = {0, -1, 0, 2, 2};
  const float own[] = {1, 1, 3, 0.5, 0};
  const double values[] = {4, 100, 2, 6, 0};
  spans.begin_step();
  spans.count(numbers, own);
  CHECK(spans.weights(numbers, own) == std::vector<float>{0.5f, 0, 1.5f, 0.5f, 0});
  spans.add(numbers, own, values);
  CHECK(spans.loss() == Approx(2 * (4 + 3 * 2) / 4.0 + 0.5 * 6).epsilon(1e-14));
  CHECK(spans.losses()[1].loss.mean() == 0);
  spans.begin_step();  // C32: nothing that counts
  spans.count({});
  CHECK(spans.loss() == 0);
}

TEST_CASE(
    "token batches of a step get span weights in place: the total is the sum of the spans' weights, whatever the "
    "batches",
    "[train]") {
  const auto step = [](const std::vector<std::vector<int>>& cut) {
    std::vector<TokenBatch> batches;
    for (const auto& documents : cut) {
      batches.emplace_back();
      for (const int length : documents) {
        std::vector<std::int32_t> numbers;
        for (int i = 0; i < length; ++i) numbers.push_back(i < 2 ? 0 : 1);  // two tokens of prompt, then the answer
        batches.back().append(std::vector<std::int32_t>(static_cast<std::size_t>(length), 7), {}, numbers);
      }
    }
    SpanWeights spans({{"prompt", 0.25}, {"answer", 1}});
    spans.weigh(batches);
    std::vector<float> all;
    double total = 0;
    for (const TokenBatch& batch : batches) {
      all.insert(all.end(), batch.weights.begin(), batch.weights.end());
      total += batch.weight();
    }
    CHECK(total == Approx(1.25).epsilon(1e-6));
    CHECK(spans.losses()[0].loss.weight == 6);
    CHECK(spans.losses()[1].loss.weight == 2 + 0 + 5);
    return all;
  };
  const std::vector<float> whole = step({{5, 3, 8}});
  CHECK(whole[0] == Approx(0.25 / 6));
  CHECK(whole[2] == Approx(1.0 / 7));
  CHECK(whole[4] == 0);  // a document's last token predicts nothing
  CHECK(step({{5}, {3}, {8}}) == whole);
  CHECK(step({{5, 3}, {8}}) == whole);
}

TEST_CASE("spans refuse what would change a denominator or hide a mistake", "[train]") {
  CHECK_THROWS_AS(SpanWeights({}), ConfigError);
  CHECK_THROWS_WITH(SpanWeights({{"a", 1}, {"a", 1}}), contains("twice"));
  CHECK_THROWS_AS(SpanWeights({{"a", -1}}), ConfigError);
  SpanWeights spans({{"a", 1}});
  const std::int32_t one[] = {0}, outside[] = {1};
  const float two[] = {1, 1};
  spans.begin_step();
  CHECK_THROWS_AS(spans.weights(one), InputError);  // not counted
  CHECK_THROWS_WITH(spans.count(one), contains("before its first pass"));
  spans.begin_step();
  spans.count(one);
  CHECK_THROWS_AS(spans.count(outside), InputError);
  CHECK_THROWS_AS(spans.count(one, two), ShapeError);
  CHECK_THROWS_AS(spans.add(one, {}, {}), ShapeError);
}
