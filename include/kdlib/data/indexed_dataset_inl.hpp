// SPDX-License-Identifier: Apache-2.0
// Bodies of indexed_dataset.hpp.
#ifndef KDLIB_DATA_INDEXED_DATASET_INL_HPP
#define KDLIB_DATA_INDEXED_DATASET_INL_HPP

#include <utility>

#include "kdlib/data/indexed_dataset.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_FUNC IndexedDataset::IndexedDataset(TokenShards shards, IndexedSettings settings)
    : shards_(std::move(shards)),
      settings_(settings),
      order_(shards_.documents(), settings.seed),
      fingerprint_(shards_.fingerprint()) {
  require<ConfigError>(settings.tokens >= 2, "[IndexedDataset] a batch of ", settings.tokens,
                       " tokens; it needs 2 or more");
  require<ConfigError>(settings.epochs >= 0, "[IndexedDataset] epochs is ", settings.epochs,
                       "; it must be 0 (without end) or more");
  fingerprint_.add(settings.tokens);
  fingerprint_.add(static_cast<std::int64_t>(settings.seed));
}

/// Reads the next document of the order; false at the end.
KDLIB_FUNC bool IndexedDataset::peek() {
  if (ahead_) return true;
  if (settings_.epochs > 0 && next_ >= settings_.epochs * order_.count()) return false;
  shards_.get(order_.at(next_), ahead_.emplace());
  return true;
}

KDLIB_FUNC std::optional<TokenBatch> IndexedDataset::next() {
  TokenBatch batch;
  std::vector<StoredDocument> taken;
  while (peek()) {
    const auto length = static_cast<std::int64_t>(ahead_->ids.size());
    if (batch.documents() > 0 && batch.tokens() + length > settings_.tokens) break;
    append_document(batch, *ahead_);
    taken.push_back(std::move(*ahead_));
    ahead_.reset();
    ++next_;
  }
  if (batch.documents() == 0) return std::nullopt;
  last_ = std::move(taken);
  return batch;
}

KDLIB_FUNC void IndexedDataset::seek(const SourceCursor& cursor) {
  next_ = read_cursor(cursor, "indexed", fingerprint_);
  ahead_.reset();
}

KDLIB_FUNC SourceDescription IndexedDataset::describe() const {
  SourceDescription list = {{"source", "indexed"}};
  append_fields(list, "source", settings_);
  list.emplace_back("source.text", fingerprint_.text());
  return list;
}

KDLIB_NAMESPACE_END

#endif
