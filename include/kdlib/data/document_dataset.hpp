// SPDX-License-Identifier: Apache-2.0
// Turns given text into training batches: a fixed number of whole documents for each batch, in a shuffled order.
#ifndef KDLIB_DATA_DOCUMENT_DATASET_HPP
#define KDLIB_DATA_DOCUMENT_DATASET_HPP

#include "kdlib/data/order.hpp"

KDLIB_NAMESPACE_BEGIN

/// Batches and order of DocumentDataset.
struct DocumentSettings {
  std::int64_t batch = 8;   // documents of a batch, >= 1
  std::uint64_t seed = 1;   // seed of the order
  std::int64_t epochs = 0;  // passes through the documents; 0: without end. The last batch may be smaller

  template <class Self, class F>
  static void visit_fields(Self& self, F&& f) {
    f(FieldInfo{"batch", "", ">= 1", "documents a batch"}, self.batch);
    f(FieldInfo{"seed", "", "", "of the order of the documents"}, self.seed);
    f(FieldInfo{"epochs", "", ">= 0", "times through the documents; 0: without end"}, self.epochs);
  }
};

/// A DataSource of the documents of one TokenBatch, with their weights. read_documents() makes such a batch from a
/// file.
class DocumentDataset {
 public:
  /// ConfigError: there are no documents, or a setting is out of its range.
  explicit DocumentDataset(TokenBatch documents, DocumentSettings settings = {});

  std::optional<TokenBatch> next();
  /// Passes over one batch. Returns false at the end.
  bool skip();
  SourceCursor cursor() const { return make_cursor("documents", fingerprint_, next_); }
  void seek(const SourceCursor& cursor) { next_ = read_cursor(cursor, "documents", fingerprint_); }
  SourceDescription describe() const;
  std::int64_t documents() const { return documents_.documents(); }

 private:
  TokenBatch documents_;
  DocumentSettings settings_;
  ShuffledOrder order_;
  Fingerprint fingerprint_;
  std::int64_t next_ = 0;  // ordinal of the next document
};

namespace detail {
/// Appends tokens [begin, end) of document b of `from` to a batch as a document, with their weights, spans and source.
void append_part(TokenBatch& batch, const TokenBatch& from, std::int64_t b, std::int64_t begin, std::int64_t end);
/// Returns a hash of the ids, limits, weights and spans of all documents.
Fingerprint fingerprint_of(const TokenBatch& documents);
}  // namespace detail

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/data/document_dataset_inl.hpp"
#endif

#endif
