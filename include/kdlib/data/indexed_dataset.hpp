// SPDX-License-Identifier: Apache-2.0
// Turns token files into training batches: whole documents in a shuffled order for each epoch, as many as fit into a
// number of tokens.
#ifndef KDLIB_DATA_INDEXED_DATASET_HPP
#define KDLIB_DATA_INDEXED_DATASET_HPP

#include <optional>

#include "kdlib/data/order.hpp"
#include "kdlib/data/token_shards.hpp"

KDLIB_NAMESPACE_BEGIN

/// Batches and order of IndexedDataset.
struct IndexedSettings {
  std::int64_t tokens = 8192;  // limit of a batch, >= 2; a document that is longer is a batch by itself
  std::uint64_t seed = 1;      // seed of the order
  std::int64_t epochs = 0;     // passes through the documents; 0: without end

  template <class Self, class F>
  static void visit_fields(Self& self, F&& f) {
    f(FieldInfo{"tokens", "tokens", ">= 2", "of a batch at most, unless one document is longer"}, self.tokens);
    f(FieldInfo{"seed", "", "", "of the order of the documents"}, self.seed);
    f(FieldInfo{"epochs", "", ">= 0", "times through the documents; 0: without end"}, self.epochs);
  }
};

/// A DataSource of the documents of token files. Documents are never cut, and nothing crosses their bounds: attention
/// stays inside a document, positions start at 0, and no row predicts a token of another document. Weights and spans
/// are those of the files (span 0: thought, 1: answer). The tokens that mark the end of documents are dropped. Memory
/// does not grow with the files, except for the order, which takes 4 bytes for each document.
class IndexedDataset {
 public:
  /// ConfigError: there are no documents, or a setting is out of its range.
  explicit IndexedDataset(TokenShards shards, IndexedSettings settings = {});

  std::optional<TokenBatch> next();
  SourceCursor cursor() const { return make_cursor("indexed", fingerprint_, next_); }
  void seek(const SourceCursor& cursor);
  SourceDescription describe() const;

  const TokenShards& shards() const { return shards_; }
  /// Returns the number of the document at a place in the order. Places are counted over all epochs.
  std::int64_t document_at(std::int64_t ordinal) { return order_.at(ordinal); }
  /// Returns how many documents have been given out, over all epochs.
  std::int64_t position() const { return next_; }
  /// Returns the documents of the batch that next() returned last.
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
