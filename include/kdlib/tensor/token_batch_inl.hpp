// SPDX-License-Identifier: Apache-2.0
// Bodies of token_batch.hpp.
#ifndef KDLIB_TENSOR_TOKEN_BATCH_INL_HPP
#define KDLIB_TENSOR_TOKEN_BATCH_INL_HPP

#include <algorithm>
#include <cmath>

#include "kdlib/tensor/token_batch.hpp"

KDLIB_NAMESPACE_BEGIN

KDLIB_FUNC void TokenBatch::append(std::span<const std::int32_t> document, std::span<const float> document_weights,
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
  for (std::size_t i = 0; !positions.empty() && i < document.size(); ++i)
    positions.push_back(static_cast<std::int32_t>(i));
  if (!sources.empty()) sources.emplace_back();
  ids.insert(ids.end(), document.begin(), document.end());
  for (std::size_t i = 0; i < document.size(); ++i) {
    const bool last = i + 1 == document.size();
    weights.push_back(last ? 0.0f : (document_weights.empty() ? 1.0f : document_weights[i]));
  }
  offsets.push_back(static_cast<std::int64_t>(ids.size()));
}

namespace detail {

/// Makes the values that an empty list stands for: 1 but 0 at the end of each document, and 0, 1, ... in each.
KDLIB_FUNC void spell_out_weights(TokenBatch& batch) {
  if (!batch.weights.empty()) return;
  batch.weights.assign(batch.ids.size(), 1.0f);
  for (std::size_t b = 1; b < batch.offsets.size(); ++b)
    batch.weights[static_cast<std::size_t>(batch.offsets[b] - 1)] = 0.0f;
}
KDLIB_FUNC void spell_out_positions(TokenBatch& batch) {
  if (!batch.positions.empty()) return;
  for (std::int64_t b = 0; b < batch.documents(); ++b)
    for (std::int64_t i = 0; i < batch.length(b); ++i) batch.positions.push_back(static_cast<std::int32_t>(i));
}
/// Gives both the lists that one of them has.
KDLIB_FUNC void give_same_lists(TokenBatch& a, TokenBatch& b) {
  if (!a.weights.empty() || !b.weights.empty()) spell_out_weights(a), spell_out_weights(b);
  if (!a.positions.empty() || !b.positions.empty()) spell_out_positions(a), spell_out_positions(b);
  if (!a.spans.empty() || !b.spans.empty()) a.spans.resize(a.ids.size(), -1), b.spans.resize(b.ids.size(), -1);
  if (!a.sources.empty() || !b.sources.empty()) {
    a.sources.resize(static_cast<std::size_t>(a.documents()));
    b.sources.resize(static_cast<std::size_t>(b.documents()));
  }
  for (TokenBatch* batch : {&a, &b}) {
    const RoutingRecord& other = (batch == &a ? b : a).routing;
    if (!batch->routing.empty() || other.empty()) continue;
    batch->routing.append(other, 0, 0);  // takes the number of layers and experts
    batch->routing.append_unknown(batch->tokens());
  }
}
template <class E>
void append_list(std::vector<E>& to, const std::vector<E>& from) {
  to.insert(to.end(), from.begin(), from.end());
}
template <class E>
std::vector<E> list_part(const std::vector<E>& list, std::int64_t begin, std::int64_t end) {
  if (list.empty()) return {};
  return std::vector<E>(list.begin() + begin, list.begin() + end);
}

}  // namespace detail

KDLIB_FUNC void TokenBatch::append(const TokenBatch& other) {
  if (other.documents() == 0) return;
  if (documents() == 0) {
    *this = TokenBatch(other);
    return;
  }
  require<ShapeError>(behaviour_log_probs.empty() == other.behaviour_log_probs.empty(),
                      "[TokenBatch::append] one batch has the log-probs of drawn tokens, the other has not: draws of "
                      "which nothing is known cannot be weighted");
  TokenBatch rest = other;
  detail::give_same_lists(*this, rest);
  routing.append(rest.routing, 0, rest.routing.tokens);
  const std::int64_t before = tokens();
  detail::append_list(ids, rest.ids);
  for (std::int64_t b = 1; b <= rest.documents(); ++b)
    offsets.push_back(before + rest.offsets[static_cast<std::size_t>(b)]);
  detail::append_list(weights, rest.weights);
  detail::append_list(behaviour_log_probs, rest.behaviour_log_probs);
  detail::append_list(positions, rest.positions);
  detail::append_list(spans, rest.spans);
  detail::append_list(sources, rest.sources);
}

KDLIB_FUNC TokenBatch TokenBatch::part(std::int64_t first, std::int64_t count) const {
  require<ShapeError>(first >= 0 && count >= 0 && first + count <= documents(), "[TokenBatch] documents ", first,
                      " to ", first + count, " of ", documents());
  const std::int64_t begin = offsets[static_cast<std::size_t>(first)],
                     end = offsets[static_cast<std::size_t>(first + count)];
  TokenBatch out;
  out.ids = detail::list_part(ids, begin, end);
  for (std::int64_t b = first + 1; b <= first + count; ++b)
    out.offsets.push_back(offsets[static_cast<std::size_t>(b)] - begin);
  out.weights = detail::list_part(weights, begin, end);
  out.behaviour_log_probs = detail::list_part(behaviour_log_probs, begin, end);
  out.positions = detail::list_part(positions, begin, end);
  out.spans = detail::list_part(spans, begin, end);
  out.sources = detail::list_part(sources, first, first + count);
  if (!routing.empty()) out.routing.append(routing, begin, end - begin);
  return out;
}

KDLIB_FUNC TokenBatch::Rows TokenBatch::rows() const {
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

KDLIB_FUNC double TokenBatch::weight() const {
  double sum = 0;
  for (std::int64_t b = 0; b < documents(); ++b)
    for (std::int64_t i = offsets[static_cast<std::size_t>(b)]; i + 1 < offsets[static_cast<std::size_t>(b + 1)]; ++i)
      sum += weights.empty() ? 1.0 : static_cast<double>(weights[static_cast<std::size_t>(i)]);
  return sum;
}

KDLIB_FUNC TokenBatch TokenBatch::from_padded(std::span<const std::int64_t> ids, std::span<const std::int64_t> mask,
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

KDLIB_FUNC std::string TokenBatch::place_of(std::int64_t token) const {
  const auto next = std::upper_bound(offsets.begin(), offsets.end(), token);
  const auto b = static_cast<std::size_t>(next - offsets.begin()) - 1;
  if (b >= sources.size() || sources[b].empty()) return concat("token ", token);
  return concat(sources[b], ": token ", token - offsets[b]);
}

KDLIB_FUNC void TokenBatch::check(std::int64_t vocabulary) const {
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
