// SPDX-License-Identifier: Apache-2.0
// Log-likelihoods with a shared beginning against one plain forward pass a text; rolling windows; accuracy and its
// error; calibration.
#include <algorithm>
#include <cmath>
#include <vector>

#include "kdlib/backend/cpu.hpp"
#include "kdlib/eval/calibration.hpp"
#include "kdlib/eval/log_likelihood.hpp"
#include "kdlib/eval/multiple_choice.hpp"
#include "kdlib/model/decoder.hpp"
#include "support/catch.hpp"
#include "support/tolerance.hpp"

using namespace kdlib;
using kdlib_tests::near;
using kdlib_tests::Tolerance;
using Ids = std::vector<std::int32_t>;

namespace {

Decoder<Cpu, double> small_model(std::int64_t context = 64) {
  DecoderConfig config;
  config.vocab_size = 40;
  config.hidden_size = 16;
  config.intermediate_size = 24;
  config.layers = 2;
  config.query_heads = 2;
  config.kv_heads = 1;
  config.head_size = 8;
  config.context_length = context;
  config.initializer_range = 0.4;
  return Decoder<Cpu, double>::from_config(config, 7);
}

/// By the definition: the whole text without its last token in one pass, logits in double.
double by_forward(Decoder<Cpu, double>& model, Ids text, std::size_t scored) {
  TokenBatch batch;
  batch.append(std::span<const std::int32_t>(text).first(text.size() - 1));
  const auto hidden = model.forward(batch);
  const auto logits = head_logits(model.head(), hidden.view());
  double sum = 0;
  for (std::size_t row = text.size() - 1 - scored; row + 1 < text.size(); ++row) {
    const double* z = logits.data() + static_cast<std::int64_t>(row) * logits[1];
    const double largest = *std::max_element(z, z + logits[1]);
    double total = 0;
    for (std::int64_t i = 0; i < logits[1]; ++i) total += std::exp(z[i] - largest);
    sum += z[text[row + 1]] - largest - std::log(total);
  }
  return sum;
}

Ids joined(const ScoredText& text) {
  Ids all = text.context;
  all.insert(all.end(), text.continuation.begin(), text.continuation.end());
  return all;
}

std::vector<std::vector<ScoredText>> groups() {
  return {
      {{{1, 2, 3, 4}, {5, 6}}, {{1, 2, 3, 4}, {5, 7, 8}}, {{1, 2, 3, 4}, {9}}},  // one beginning
      {{{3, 4}, {5}}, {{3, 4}, {6}}, {{3, 4}, {7}}, {{3, 4}, {8}}},              // nothing but the beginning is run
      {{{10, 11, 12}, {20, 21}}, {{13, 11, 12}, {20, 21}}},                      // no beginning in common
      {{{10, 11, 12}, {20, 21}}, {{10, 14, 12}, {20, 21}}},                      // contexts part in the middle
      {{{1, 2}, {3, 4, 5, 6}}, {{1, 2, 3}, {4}}, {{1, 2, 3, 4, 5, 6, 7}, {8}}},  // a text that another one begins with
      {{{30}, {31, 32}}},
      {{{30, 31}, {}}, {{30, 31}, {2}}}};
}

}  // namespace

TEST_CASE("log-likelihoods with a shared beginning equal one pass a text, at any batch size", "[eval]") {
  auto model = small_model();
  const auto all = groups();
  for (const std::int64_t tokens : {1, 9, 16, 4096}) {
    const auto values = log_likelihoods(model, std::span<const std::vector<ScoredText>>(all), {.tokens = tokens});
    REQUIRE(values.size() == all.size());
    for (std::size_t g = 0; g < all.size(); ++g) {
      REQUIRE(values[g].size() == all[g].size());
      for (std::size_t t = 0; t < all[g].size(); ++t) {
        INFO("tokens " << tokens << ", group " << g << ", text " << t);
        CHECK(near(values[g][t], by_forward(model, joined(all[g][t]), all[g][t].continuation.size()),
                   Tolerance<double>::model));
      }
    }
  }
}

TEST_CASE("a text longer than the context loses its beginning", "[eval]") {
  auto model = small_model(6);
  const std::vector<std::vector<ScoredText>> texts{
      {{{1, 2, 3, 4, 5, 6}, {7, 8}}, {{1, 2, 3, 4, 5, 6}, {7, 8, 9, 10}}, {{1, 2, 3}, {4}}}};
  const auto values = log_likelihoods(model, std::span<const std::vector<ScoredText>>(texts));
  CHECK(near(values[0][0], by_forward(model, {2, 3, 4, 5, 6, 7, 8}, 2),
             Tolerance<double>::model));  // six inputs and the last label
  CHECK(near(values[0][1], by_forward(model, {4, 5, 6, 7, 8, 9, 10}, 4), Tolerance<double>::model));
  CHECK(near(values[0][2], by_forward(model, {1, 2, 3, 4}, 1), Tolerance<double>::model));
  const std::vector<std::vector<ScoredText>> too_long{{{{1}, {2, 3, 4, 5, 6, 7, 8}}}}, empty{{{{}, {2}}}};
  CHECK_THROWS_AS(log_likelihoods(model, std::span<const std::vector<ScoredText>>(too_long)), InputError);
  CHECK_THROWS_AS(log_likelihoods(model, std::span<const std::vector<ScoredText>>(empty)), InputError);
}

TEST_CASE("rolling windows score every token once", "[eval]") {
  const Ids ids{0, 1, 2, 3, 4, 5, 6, 7, 8, 9};
  const auto windows = rolling_windows(ids, 99, 4);  // the vector of the harness's own documentation
  REQUIRE(windows.size() == 3);
  CHECK(windows[0].input == Ids{99, 0, 1, 2});
  CHECK(windows[0].targets == Ids{0, 1, 2, 3});
  CHECK(windows[1].input == Ids{3, 4, 5, 6});
  CHECK(windows[1].targets == Ids{4, 5, 6, 7});
  CHECK(windows[2].input == Ids{5, 6, 7, 8});
  CHECK(windows[2].targets == Ids{8, 9});
  CHECK(rolling_windows(Ids{}, 99, 4).empty());
  REQUIRE(rolling_windows(ids, 99, 50).size() == 1);
  CHECK(rolling_windows(ids, 99, 50)[0].input == Ids{99, 0, 1, 2, 3, 4, 5, 6, 7, 8});

  auto model = small_model(4);
  const std::vector<Ids> texts{ids, {5}};
  const auto sums = rolling_log_likelihoods(model, std::span<const Ids>(texts), 39);
  const double expected = by_forward(model, {39, 0, 1, 2, 3}, 4) + by_forward(model, {3, 4, 5, 6, 7}, 4) +
                          by_forward(model, {5, 6, 7, 8, 9}, 2);
  CHECK(near(sums[0], expected, Tolerance<double>::model));
  CHECK(near(sums[1], by_forward(model, {39, 5}, 1), Tolerance<double>::model));
}

TEST_CASE("progress counts the groups and may end the scoring", "[eval]") {
  auto model = small_model();
  const auto all = groups();
  std::vector<std::int64_t> seen;
  LikelihoodSettings how{.tokens = 9};
  how.progress = [&](std::int64_t done, std::int64_t total) {
    CHECK(total == static_cast<std::int64_t>(all.size()));
    seen.push_back(done);
  };
  log_likelihoods(model, std::span<const std::vector<ScoredText>>(all), how);
  CHECK(std::is_sorted(seen.begin(), seen.end()));
  CHECK(seen.back() == static_cast<std::int64_t>(all.size()));
  CHECK(seen.size() > 2);
}

TEST_CASE("the first choice wins a tie and a choice without characters never wins per character", "[eval]") {
  const std::vector<double> tie{-2, -1, -1}, values{-4, -6, -1};
  CHECK(score_choice(tie, {1, {1, 1, 1}}).acc);
  CHECK_FALSE(score_choice(tie, {2, {1, 1, 1}}).acc);
  CHECK(score_choice(values, {2, {4, 12, 0}}).acc);
  CHECK_FALSE(score_choice(values, {2, {4, 12, 0}}).acc_norm);  // -1, -0.5, never
  CHECK(score_choice(values, {1, {4, 12, 0}}).acc_norm);
  CHECK_THROWS_AS(score_choice(values, {3, {1, 1, 1}}), InputError);
  CHECK_THROWS_AS(score_choice(values, {0, {1, 1}}), ShapeError);
}

TEST_CASE("errors are those of a mean, pooled over groups of unequal size", "[eval]") {
  const std::vector<double> a{1, 0, 1, 1}, b{0, 1};
  const MeanError first = mean_and_error(a), second = mean_and_error(b);
  CHECK(first.mean == 0.75);
  CHECK(near(first.error, 0.25, Tolerance<double>::elementwise));  // squares 0.75, /3 = 0.25, sqrt 0.5, /2
  CHECK(near(second.error, 0.5, Tolerance<double>::elementwise));
  const MeanError both = pool(std::vector<MeanError>{first, second});
  CHECK(both.count == 6);
  CHECK(near(both.mean, 4.0 / 6, Tolerance<double>::elementwise));
  CHECK(near(both.error, std::sqrt((3 * 0.0625 * 4 + 1 * 0.25 * 2) / 4 / 6), Tolerance<double>::elementwise));
  CHECK(std::isnan(mean_and_error(std::vector<double>{1}).error));
}

TEST_CASE("calibration error is the weighted gap of confidence and accuracy by bin", "[eval]") {
  auto model = small_model();
  TokenBatch documents;
  documents.append(Ids{1, 2, 3, 4, 5, 6, 7, 8});
  documents.append(Ids{9, 10, 11, 12}, std::vector<float>{1, 0, 2, 0});
  const TokenBatch::Rows rows = documents.rows();
  const auto hidden = model.forward(documents);
  const auto logits = head_logits(model.head(), hidden.view());
  constexpr int bins = 5;
  double weight[bins] = {}, sure[bins] = {}, right[bins] = {}, total = 0;
  for (std::size_t r = 0; r < rows.token.size(); ++r) {
    const double* z = logits.data() + rows.token[r] * logits[1];
    const double* best = std::max_element(z, z + logits[1]);
    double sum = 0;
    for (std::int64_t i = 0; i < logits[1]; ++i) sum += std::exp(z[i] - *best);
    const int bin = std::min(bins - 1, static_cast<int>(bins / sum));
    const auto w = static_cast<double>(rows.weight[r]);
    weight[bin] += w;
    sure[bin] += w / sum;
    right[bin] += best - z == rows.label[r] ? w : 0;
    total += w;
  }
  double expected = 0;
  for (int i = 0; i < bins; ++i) expected += std::abs(right[i] - sure[i]) / total;
  for (const std::int64_t workspace : {std::int64_t{1}, std::int64_t{1} << 20}) {
    const Calibration c = calibration(model, documents, bins, {.workspace_bytes = workspace});
    CHECK(near(c.error, expected, Tolerance<double>::reduction));
    CHECK(near(c.tokens, total, Tolerance<double>::reduction));
  }
  CHECK(calibration(model, TokenBatch(), bins).tokens == 0);
  CHECK_THROWS_AS(calibration(model, documents, 0), ConfigError);
}
