// SPDX-License-Identifier: Apache-2.0
// Token files as training batches: whole documents of an epoch's shuffled order, as many as a budget of tokens holds.
#ifndef KDLIB_DATA_INDEXED_DATASET_HPP
#define KDLIB_DATA_INDEXED_DATASET_HPP

#include <optional>

#include "kdlib/data/order.hpp"
#include "kdlib/data/token_shards.hpp"

KDLIB_NAMESPACE_BEGIN

/// Batches and order of IndexedDataset.
struct IndexedSettings {
  std::int64_t tokens = 8192;  // a batch takes documents until one more would pass it; a longer document is a batch
  std::uint64_t seed = 1;      // of the order
  std::int64_t epochs = 0;     // times through the documents; 0: without end

  template <class Self, class F>
  static void visit_fields(Self& self, F&& f) {
    f(FieldInfo{"tokens", "tokens", ">= 2", "of a batch at most, unless one document is longer"}, self.tokens);
    f(FieldInfo{"seed", "", "", "of the order of the documents"}, self.seed);
    f(FieldInfo{"epochs", "", ">= 0", "times through the documents; 0: without end"}, self.epochs);
  }
};

/// A DataSource. Documents are never cut, and nothing crosses their bounds: no attention, positions from 0, no row that
/// predicts another document. Weights and spans are those of the files (spans 0: thought, 1: answer), the ends of
/// documents are dropped. The memory does not grow with the files, but for 4 bytes a document of the order.
class IndexedDataset {
 public:
  /// ConfigError: a budget below 2, no documents.
  explicit IndexedDataset(TokenShards shards, IndexedSettings settings = {});

  std::optional<TokenBatch> next();
  SourceCursor cursor() const { return make_cursor("indexed", fingerprint_, next_); }
  void seek(const SourceCursor& cursor);
  SourceDescription describe() const;

  const TokenShards& shards() const { return shards_; }
  /// Number of the document at a place in the order, counted over all epochs.
  std::int64_t document_at(std::int64_t ordinal) { return order_.at(ordinal); }
  /// Documents given out so far, over all epochs.
  std::int64_t position() const { return next_; }
  /// The documents of the batch given out last.
  const std::vector<StoredDocument>& last_documents() const { return last_; }

 private:
  bool peek();

  TokenShards shards_;
  IndexedSettings settings_;
  ShuffledOrder order_;
  Fingerprint fingerprint_;
  std::int64_t next_ = 0;
  std::optional<StoredDocument> ahead_;  // document next_, read but not given out
  std::vector<StoredDocument> last_;
};

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/data/indexed_dataset_inl.hpp"
#endif

#endif
