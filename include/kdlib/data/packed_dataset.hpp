// SPDX-License-Identifier: Apache-2.0
// Turns a stream of tokens into training batches: windows of equal length over documents laid end to end, in a shuffled
// order.
#ifndef KDLIB_DATA_PACKED_DATASET_HPP
#define KDLIB_DATA_PACKED_DATASET_HPP

#include "kdlib/data/document_dataset.hpp"

KDLIB_NAMESPACE_BEGIN

/// Windows, batches and order of PackedDataset.
struct PackedSettings {
  std::int64_t batch = 8;      // windows of a batch, >= 1
  std::int64_t length = 1024;  // tokens of a window, >= 2
  std::uint64_t seed = 1;      // seed of the order
  std::int64_t epochs = 0;     // passes through the stream; 0: without end. The last batch may be smaller

  template <class Self, class F>
  static void visit_fields(Self& self, F&& f) {
    f(FieldInfo{"batch", "", ">= 1", "windows a batch"}, self.batch);
    f(FieldInfo{"length", "tokens", ">= 2", "of a window"}, self.length);
    f(FieldInfo{"seed", "", "", "of the order of the windows"}, self.seed);
    f(FieldInfo{"epochs", "", ">= 0", "times through the stream; 0: without end"}, self.epochs);
  }
};

/// A DataSource of windows. Neighbouring windows share one token, so that every pair (token, next token of the same
/// document) is a row of exactly one window and nothing is lost where the stream is cut. Attention never crosses
/// documents. The last window may be shorter. A piece of a document that is a single token has no row and is left out.
class PackedDataset {
 public:
  /// Takes documents with their weights, such as those of read_documents() or of a teacher's cache. ConfigError: no row
  /// counts, or a setting is out of its range.
  explicit PackedDataset(TokenBatch documents, PackedSettings settings = {});
  /// Takes one long document.
  explicit PackedDataset(std::span<const std::int32_t> tokens, PackedSettings settings = {});

  std::optional<TokenBatch> next();
  /// Passes over one batch. Returns false at the end.
  bool skip();
  SourceCursor cursor() const { return make_cursor("packed", fingerprint_, next_); }
  void seek(const SourceCursor& cursor) { next_ = read_cursor(cursor, "packed", fingerprint_); }
  SourceDescription describe() const;
  std::int64_t windows() const { return static_cast<std::int64_t>(starts_.size()); }

 private:
  static TokenBatch one_document(std::span<const std::int32_t> tokens);
  static std::vector<std::int64_t> find_windows(const TokenBatch& documents, std::int64_t length);
  void append_window(TokenBatch& batch, std::int64_t start) const;

  TokenBatch documents_;
  PackedSettings settings_;
  std::vector<std::int64_t> starts_;  // first token of each window that has rows
  ShuffledOrder order_;
  Fingerprint fingerprint_;
  std::int64_t next_ = 0;  // ordinal of the next window
};

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/data/packed_dataset_inl.hpp"
#endif

#endif
