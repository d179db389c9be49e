// SPDX-License-Identifier: Apache-2.0
// Bodies of token_batch.hpp.
#ifndef KDLIB_TENSOR_TOKEN_BATCH_INL_HPP
#define KDLIB_TENSOR_TOKEN_BATCH_INL_HPP

#include <cmath>

#include "kdlib/tensor/token_batch.hpp"

KDLIB_NAMESPACE_BEGIN

inline void TokenBatch::append(std::span<const std::int32_t> document, std::span<const float> document_weights,
                               std::span<const std::int32_t> document_spans) {
  require<InputError>(!document.empty(), "[TokenBatch::append] the document has no tokens");
  require<ShapeError>(document_weights.empty() || document_weights.size() == document.size(), "[TokenBatch::append] ",
                      document_weights.size(), " weights for ", document.size(), " tokens");
  require<ShapeError>(document_spans.empty() || document_spans.size() == document.size(), "[TokenBatch::append] ",
                      document_spans.size(), " span numbers for ", document.size(), " tokens");
  if (weights.size() < ids.size()) weights.resize(ids.size(), 1.0f);
  if (!document_spans.empty() || !spans.empty()) {
    spans.resize(ids.size(), -1);
    spans.insert(spans.end(), document_spans.begin(), document_spans.end());
    spans.resize(ids.size() + document.size(), -1);
  }
  ids.insert(ids.end(), document.begin(), document.end());
  for (std::size_t i = 0; i < document.size(); ++i) {
    const bool last = i + 1 == document.size();
    weights.push_back(last ? 0.0f : (document_weights.empty() ? 1.0f : document_weights[i]));
  }
  offsets.push_back(static_cast<std::int64_t>(ids.size()));
}

inline TokenBatch::Rows TokenBatch::rows() const {
  Rows r;
  for (std::int64_t b = 0; b < documents(); ++b) {
    for (std::int64_t i = offsets[static_cast<std::size_t>(b)]; i + 1 < offsets[static_cast<std::size_t>(b + 1)]; ++i) {
      const auto k = static_cast<std::size_t>(i);
      const float w = weights.empty() ? 1.0f : weights[k];
      if (w == 0.0f) continue;
      r.token.push_back(i);
      r.label.push_back(ids[k + 1]);
      r.weight.push_back(w);
      if (!behaviour_log_probs.empty()) r.behaviour.push_back(behaviour_log_probs[k]);
      if (!spans.empty()) r.span.push_back(spans[k]);
    }
  }
  return r;
}

inline double TokenBatch::weight() const {
  double sum = 0;
  for (std::int64_t b = 0; b < documents(); ++b)
    for (std::int64_t i = offsets[static_cast<std::size_t>(b)]; i + 1 < offsets[static_cast<std::size_t>(b + 1)]; ++i)
      sum += weights.empty() ? 1.0 : static_cast<double>(weights[static_cast<std::size_t>(i)]);
  return sum;
}

inline TokenBatch TokenBatch::from_padded(std::span<const std::int64_t> ids, std::span<const std::int64_t> mask,
                                          std::int64_t batch, std::int64_t length,
                                          std::span<const std::int64_t> loss_mask) {
  const auto n = static_cast<std::size_t>(batch * length);
  require<ShapeError>(ids.size() == n && mask.size() == n && (loss_mask.empty() || loss_mask.size() == n),
                      "[TokenBatch::from_padded] ids ", ids.size(), ", mask ", mask.size(), ", loss_mask ",
                      loss_mask.size(), ": each must be ", batch, " x ", length);
  TokenBatch out;
  std::vector<std::int32_t> document;
  std::vector<float> weights;
  for (std::int64_t b = 0; b < batch; ++b) {
    document.clear();
    weights.clear();
    for (std::int64_t i = 0; i < length; ++i) {
      const auto k = static_cast<std::size_t>(b * length + i);
      if (mask[k] == 0) continue;
      document.push_back(static_cast<std::int32_t>(ids[k]));
      weights.push_back(loss_mask.empty() ? 1.0f : static_cast<float>(loss_mask[k]));
    }
    require<InputError>(!document.empty(), "[TokenBatch::from_padded] row ", b, " is all padding");
    out.append(document, weights);
  }
  return out;
}

inline std::string TokenBatch::place_of(std::int64_t token) const {
  const auto next = std::upper_bound(offsets.begin(), offsets.end(), token);
  const auto b = static_cast<std::size_t>(next - offsets.begin()) - 1;
  if (b >= sources.size() || sources[b].empty()) return concat("token ", token);
  return concat(sources[b], ": token ", token - offsets[b]);
}

inline void TokenBatch::check(std::int64_t vocabulary) const {
  require<ShapeError>(!offsets.empty() && offsets.front() == 0 && offsets.back() == tokens(),
                      "[TokenBatch] offsets must run from 0 to ", tokens());
  for (std::size_t b = 0; b + 1 < offsets.size(); ++b)
    require<InputError>(offsets[b + 1] > offsets[b], "[TokenBatch] document ", b, " has no tokens");
  for (const std::vector<float>* v : {&weights, &behaviour_log_probs})
    require<ShapeError>(v->empty() || v->size() == ids.size(), "[TokenBatch] ", v->size(), " values for ", ids.size(),
                        " tokens");
  require<ShapeError>(positions.empty() || positions.size() == ids.size(), "[TokenBatch] ", positions.size(),
                      " positions for ", ids.size(), " tokens");
  routing.check(tokens());
  require<ShapeError>(spans.empty() || spans.size() == ids.size(), "[TokenBatch] ", spans.size(), " span numbers for ",
                      ids.size(), " tokens");
  for (std::size_t i = 0; i < ids.size(); ++i)
    require<InputError>(ids[i] >= 0 && ids[i] < vocabulary, "[TokenBatch] ", place_of(static_cast<std::int64_t>(i)),
                        " has id ", ids[i], ", outside the vocabulary of ", vocabulary);
  for (const float w : weights)
    require<InputError>(std::isfinite(w) && w >= 0, "[TokenBatch] a row weight is negative or not finite");
}

KDLIB_NAMESPACE_END

#endif
