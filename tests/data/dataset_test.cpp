// SPDX-License-Identifier: Apache-2.0
// Orders, cursors and the two sources of given text: every row once an epoch, and a resumed source goes on exactly.
#include <algorithm>
#include <map>
#include <set>
#include <vector>

#include "kdlib/data/document_dataset.hpp"
#include "kdlib/data/packed_dataset.hpp"
#include "support/catch.hpp"

using namespace kdlib;

namespace {

/// Documents of the given lengths whose ids count up over all of them, so that a row is named by its token's id.
TokenBatch counting_documents(const std::vector<std::int64_t>& lengths) {
  TokenBatch batch;
  std::int32_t id = 0;
  for (const std::int64_t length : lengths) {
    std::vector<std::int32_t> ids;
    for (std::int64_t i = 0; i < length; ++i) ids.push_back(id++);
    batch.append(ids);
  }
  return batch;
}

std::vector<std::int32_t> row_ids(const TokenBatch& batch) {
  std::vector<std::int32_t> out;
  for (const std::int64_t token : batch.rows().token) out.push_back(batch.ids[static_cast<std::size_t>(token)]);
  return out;
}

bool same(const TokenBatch& a, const TokenBatch& b) {
  return a.ids == b.ids && a.offsets == b.offsets && a.weights == b.weights && a.sources == b.sources;
}

template <class Source>
void require_exact_resume(Source& source, Source& second) {
  std::vector<TokenBatch> batches;
  std::vector<SourceCursor> cursors;
  for (int i = 0; i < 9; ++i) {
    cursors.push_back(source.cursor());
    batches.push_back(*source.next());
  }
  for (const int from : {4, 0, 8, 7}) {
    second.seek(cursors[static_cast<std::size_t>(from)]);
    for (std::size_t i = static_cast<std::size_t>(from); i < batches.size(); ++i) {
      REQUIRE(second.cursor() == cursors[i]);
      REQUIRE(same(*second.next(), batches[i]));
    }
  }
}

}  // namespace

static_assert(DataSource<DocumentDataset>);
static_assert(DataSource<PackedDataset>);

TEST_CASE("each epoch of a shuffled order holds every item once and differs from the one before", "[data]") {
  ShuffledOrder order(50, 3);
  std::vector<std::vector<std::int64_t>> epochs;
  for (int e = 0; e < 3; ++e) {
    epochs.emplace_back();
    for (std::int64_t i = 0; i < 50; ++i) epochs.back().push_back(order.at(50 * e + i));
    REQUIRE(std::set<std::int64_t>(epochs.back().begin(), epochs.back().end()).size() == 50);
  }
  REQUIRE(epochs[0] != epochs[1]);
  REQUIRE(epochs[1] != epochs[2]);
  REQUIRE_FALSE(std::is_sorted(epochs[0].begin(), epochs[0].end()));
  ShuffledOrder again(50, 3), other(50, 4);
  REQUIRE(again.at(120) == epochs[2][20]);
  std::vector<std::int64_t> others;
  for (std::int64_t i = 0; i < 50; ++i) others.push_back(other.at(i));
  REQUIRE(others != epochs[0]);
  for (std::int64_t i = 0; i < 50; ++i) REQUIRE(order.first_ordinal(epochs[0][static_cast<std::size_t>(i)]) == i);
  REQUIRE_THROWS_AS(ShuffledOrder(0, 1), ConfigError);
}

TEST_CASE("a shuffle reaches every permutation about equally often", "[data]") {
  std::map<std::vector<std::int64_t>, int> counts;
  ShuffledOrder order(4, 8);
  constexpr int epochs = 4800;
  for (int e = 0; e < epochs; ++e)
    ++counts[{order.at(4 * e), order.at(4 * e + 1), order.at(4 * e + 2), order.at(4 * e + 3)}];
  REQUIRE(counts.size() == 24);
  double chi = 0;
  for (const auto& [permutation, count] : counts) chi += (count - 200.0) * (count - 200.0) / 200.0;
  REQUIRE(chi < 49.7);  // 99.9 % point for 23 degrees of freedom
}

TEST_CASE("documents come whole, each once an epoch, in full batches across epochs", "[data]") {
  DocumentDataset source(counting_documents({3, 1, 5, 2, 4}), {.batch = 2, .seed = 7});
  std::map<std::int32_t, int> firsts;
  for (int i = 0; i < 5; ++i) {  // ten documents: two epochs
    const TokenBatch batch = *source.next();
    REQUIRE(batch.documents() == 2);
    for (std::int64_t b = 0; b < 2; ++b)
      ++firsts[batch.ids[static_cast<std::size_t>(batch.offsets[static_cast<std::size_t>(b)])]];
  }
  REQUIRE(firsts == std::map<std::int32_t, int>{{0, 2}, {3, 2}, {4, 2}, {9, 2}, {11, 2}});
}

TEST_CASE("a limit of epochs ends a source with the rest as a smaller batch", "[data]") {
  DocumentDataset source(counting_documents({2, 2, 2}), {.batch = 4, .epochs = 2});
  REQUIRE(source.next()->documents() == 4);
  REQUIRE(source.next()->documents() == 2);
  REQUIRE_FALSE(source.next());
  REQUIRE_FALSE(source.next());
}

TEST_CASE("windows hold every next-token pair exactly once, for lengths around the window's multiples (C15)",
          "[data][C15]") {
  for (const std::int64_t length : {2, 3, 4, 7, 100})
    for (const std::vector<std::int64_t>& lengths : std::vector<std::vector<std::int64_t>>{{2},
                                                                                           {3},
                                                                                           {4},
                                                                                           {5},
                                                                                           {6},
                                                                                           {7},
                                                                                           {8},
                                                                                           {9},
                                                                                           {12},
                                                                                           {13},
                                                                                           {14},
                                                                                           {1, 2},
                                                                                           {2, 1},
                                                                                           {1, 1, 1, 2},
                                                                                           {5, 1, 1, 8, 2, 3},
                                                                                           {3, 3, 3, 3},
                                                                                           {50, 49, 51}}) {
      CAPTURE(length, lengths);
      const TokenBatch documents = counting_documents(lengths);
      PackedDataset source(documents, {.batch = 1, .length = length, .epochs = 1});
      std::vector<std::int32_t> rows;
      while (const auto batch = source.next()) {
        batch->check(1000);
        REQUIRE(batch->tokens() <= length);
        for (std::int64_t b = 0; b < batch->documents(); ++b) REQUIRE(batch->length(b) >= 2);
        for (const std::int32_t id : row_ids(*batch)) rows.push_back(id);
        for (const TokenBatch::Rows r = batch->rows(); const std::int64_t token : r.token)
          REQUIRE(batch->ids[static_cast<std::size_t>(token + 1)] == batch->ids[static_cast<std::size_t>(token)] + 1);
      }
      std::sort(rows.begin(), rows.end());
      REQUIRE(rows == row_ids(documents));
    }
}

TEST_CASE("streams without a row are refused (C15)", "[data][C15]") {
  const std::vector<std::int32_t> none, one = {4};
  REQUIRE_THROWS_WITH(PackedDataset(std::span<const std::int32_t>(none)), contains("no row to learn from"));
  REQUIRE_THROWS_AS(PackedDataset(std::span<const std::int32_t>(one)), ConfigError);
  REQUIRE_THROWS_AS(PackedDataset(counting_documents({1, 1, 1})), ConfigError);
  REQUIRE_THROWS_WITH(PackedDataset(counting_documents({5}), {.length = 1}), contains("length is 1"));
  REQUIRE_THROWS_WITH(PackedDataset(counting_documents({5}), {.batch = 0}), contains("batch is 0"));
  REQUIRE_THROWS_WITH(DocumentDataset(counting_documents({5}), {.batch = 0}), contains("batch is 0"));
  REQUIRE_THROWS_AS(DocumentDataset(TokenBatch{}), ConfigError);
}

TEST_CASE("row weights travel with their tokens into windows, and windows without a weight are left out", "[data]") {
  TokenBatch documents;
  const std::vector<std::int32_t> ids = {0, 1, 2, 3, 4, 5, 6, 7, 8};
  const std::vector<float> weights = {0, 0, 0, 0, 0.5f, 2, 0, 1, 0};
  documents.append(ids, weights);
  PackedDataset source(documents, {.batch = 1, .length = 4, .epochs = 1});
  REQUIRE(source.windows() == 2);  // rows 0-2 have no weight
  std::map<std::int32_t, float> seen;
  while (const auto batch = source.next()) {
    const TokenBatch::Rows rows = batch->rows();
    for (std::size_t r = 0; r < rows.token.size(); ++r)
      seen[batch->ids[static_cast<std::size_t>(rows.token[r])]] = rows.weight[r];
  }
  REQUIRE(seen == std::map<std::int32_t, float>{{4, 0.5f}, {5, 2.0f}, {7, 1.0f}});
}

TEST_CASE("a source that seeks to a cursor repeats what followed it, bit for bit (D20)", "[data][D20]") {
  const TokenBatch documents = counting_documents({5, 9, 2, 2, 30, 4, 7});
  DocumentDataset a(documents, {.batch = 3, .seed = 5}), b(documents, {.batch = 3, .seed = 5});
  require_exact_resume(a, b);
  PackedDataset c(documents, {.batch = 3, .length = 6, .seed = 5}), d(documents, {.batch = 3, .length = 6, .seed = 5});
  require_exact_resume(c, d);
}

TEST_CASE("cursors of other sources, other text and broken ones are refused", "[data]") {
  DocumentDataset source(counting_documents({5, 9}));
  DocumentDataset other(counting_documents({5, 8}));
  PackedDataset packed(counting_documents({5, 9}));
  REQUIRE_THROWS_WITH(source.seek(other.cursor()), contains("has changed"));
  REQUIRE_THROWS_WITH(source.seek(packed.cursor()), contains("source is 'packed'"));
  for (const char* text : {"", "documents", "documents 12", "documents 0123456789abcdef x",
                           "documents 0123456789abcdef -1", "documents 0123456789abcdef 1 2"})
    REQUIRE_THROWS_AS(source.seek(text), FormatError);
}
