// SPDX-License-Identifier: Apache-2.0
// Bodies of packed_dataset.hpp.
#ifndef KDLIB_DATA_PACKED_DATASET_INL_HPP
#define KDLIB_DATA_PACKED_DATASET_INL_HPP

#include <algorithm>
#include <utility>

#include "kdlib/data/packed_dataset.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_FUNC TokenBatch PackedDataset::one_document(std::span<const std::int32_t> tokens) {
  TokenBatch batch;
  if (!tokens.empty()) batch.append(tokens);
  return batch;
}

/// Windows start every length - 1 tokens; those in which no row counts are left out.
KDLIB_FUNC std::vector<std::int64_t> PackedDataset::find_windows(const TokenBatch& documents, std::int64_t length) {
  require<ConfigError>(length >= 2, "[PackedDataset] length is ", length,
                       "; a window needs 2 or more tokens to have a row");
  std::vector<std::int64_t> starts;
  for (const std::int64_t token : documents.rows().token) {
    const std::int64_t start = token / (length - 1) * (length - 1);
    if (starts.empty() || starts.back() != start) starts.push_back(start);
  }
  require<ConfigError>(
      !starts.empty(), "[PackedDataset] ", documents.documents(), " documents with ", documents.tokens(),
      " tokens have no row to learn from: give documents of two or more tokens whose weights are not all 0");
  return starts;
}

KDLIB_FUNC PackedDataset::PackedDataset(TokenBatch documents, PackedSettings settings)
    : documents_(std::move(documents)),
      settings_(settings),
      starts_(find_windows(documents_, settings.length)),
      order_(static_cast<std::int64_t>(starts_.size()), settings.seed),
      fingerprint_(detail::fingerprint_of(documents_)) {
  require<ConfigError>(settings.batch >= 1, "[PackedDataset] batch is ", settings.batch, "; it must be 1 or more");
  require<ConfigError>(settings.epochs >= 0, "[PackedDataset] epochs is ", settings.epochs,
                       "; it must be 0 (without end) or more");
  fingerprint_.add(settings.length);
  fingerprint_.add(static_cast<std::int64_t>(settings.seed));
}

KDLIB_FUNC PackedDataset::PackedDataset(std::span<const std::int32_t> tokens, PackedSettings settings)
    : PackedDataset(one_document(tokens), settings) {}

KDLIB_FUNC void PackedDataset::append_window(TokenBatch& batch, std::int64_t start) const {
  const auto& offsets = documents_.offsets;
  const std::int64_t end = std::min(start + settings_.length, documents_.tokens());
  auto b = std::upper_bound(offsets.begin(), offsets.end(), start) - offsets.begin() - 1;
  for (std::int64_t at = start; at < end; ++b) {
    const std::int64_t first = offsets[static_cast<std::size_t>(b)],
                       stop = std::min(offsets[static_cast<std::size_t>(b + 1)], end);
    if (stop - at >= 2) detail::append_part(batch, documents_, b, at - first, stop - first);
    at = stop;
  }
}

KDLIB_FUNC std::optional<TokenBatch> PackedDataset::next() {
  TokenBatch batch;
  const std::int64_t end = end_of_batch(next_, settings_.batch, settings_.epochs, order_.count());
  while (next_ < end) append_window(batch, starts_[static_cast<std::size_t>(order_.at(next_++))]);
  if (batch.documents() == 0) return std::nullopt;
  return batch;
}

KDLIB_FUNC bool PackedDataset::skip() {
  const std::int64_t end = end_of_batch(next_, settings_.batch, settings_.epochs, order_.count());
  return std::exchange(next_, end) < end;
}

KDLIB_FUNC SourceDescription PackedDataset::describe() const {
  SourceDescription list = {{"source", "packed"}};
  append_fields(list, "source", settings_);
  list.emplace_back("source.text", fingerprint_.text());  // behind its parts: a refusal names the part
  return list;
}

KDLIB_NAMESPACE_END

#endif
