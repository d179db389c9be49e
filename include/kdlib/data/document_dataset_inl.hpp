// SPDX-License-Identifier: Apache-2.0
// Bodies of document_dataset.hpp.
#ifndef KDLIB_DATA_DOCUMENT_DATASET_INL_HPP
#define KDLIB_DATA_DOCUMENT_DATASET_INL_HPP

#include <algorithm>
#include <utility>

#include "kdlib/core/stop.hpp"
#include "kdlib/data/document_dataset.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

KDLIB_FUNC void append_part(TokenBatch& batch, const TokenBatch& from, std::int64_t b, std::int64_t begin,
                            std::int64_t end) {
  const std::int64_t first = from.offsets[static_cast<std::size_t>(b)] + begin;
  const auto length = static_cast<std::size_t>(end - begin);
  batch.append(std::span(from.ids).subspan(static_cast<std::size_t>(first), length),
               from.weights.empty() ? std::span<const float>()
                                    : std::span(from.weights).subspan(static_cast<std::size_t>(first), length),
               from.spans.empty() ? std::span<const std::int32_t>()
                                  : std::span(from.spans).subspan(static_cast<std::size_t>(first), length));
  if (from.sources.empty()) return;
  batch.sources.resize(static_cast<std::size_t>(batch.documents()));
  batch.sources.back() = from.sources[static_cast<std::size_t>(b)];
}

KDLIB_FUNC Fingerprint fingerprint_of(const TokenBatch& documents) {
  Fingerprint f;
  f.add(std::span<const std::int32_t>(documents.ids));
  f.add(documents.offsets.data(), documents.offsets.size() * sizeof(std::int64_t));
  f.add(documents.weights.data(), documents.weights.size() * sizeof(float));
  f.add(documents.spans.data(), documents.spans.size() * sizeof(std::int32_t));
  return f;
}

}  // namespace detail

KDLIB_FUNC DocumentDataset::DocumentDataset(TokenBatch documents, DocumentSettings settings)
    : documents_(std::move(documents)),
      settings_(settings),
      order_(documents_.documents(), settings.seed),
      fingerprint_(detail::fingerprint_of(documents_)) {
  require<ConfigError>(settings.batch >= 1, "[DocumentDataset] batch is ", settings.batch, "; it must be 1 or more");
  require<ConfigError>(settings.epochs >= 0, "[DocumentDataset] epochs is ", settings.epochs,
                       "; it must be 0 (without end) or more");
  fingerprint_.add(static_cast<std::int64_t>(settings.seed));
}

KDLIB_FUNC std::optional<TokenBatch> DocumentDataset::next() {
  TokenBatch batch;
  const std::int64_t end = end_of_batch(next_, settings_.batch, settings_.epochs, order_.count());
  for (std::int64_t i = next_; i < end; ++i) {
    if ((i - next_) % 256 == 0) check_stop();
    const std::int64_t b = order_.at(i);
    detail::append_part(batch, documents_, b, 0, documents_.length(b));
  }
  next_ = std::max(next_, end);
  if (batch.documents() == 0) return std::nullopt;
  return batch;
}

KDLIB_FUNC bool DocumentDataset::skip() {
  const std::int64_t end = end_of_batch(next_, settings_.batch, settings_.epochs, order_.count());
  return std::exchange(next_, end) < end;
}

KDLIB_FUNC SourceDescription DocumentDataset::describe() const {
  SourceDescription list = {{"source", "documents"}};
  append_fields(list, "source", settings_);
  list.emplace_back("source.text", fingerprint_.text());  // behind its parts: a refusal names the part
  return list;
}

KDLIB_NAMESPACE_END

#endif
