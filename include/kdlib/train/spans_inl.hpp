// SPDX-License-Identifier: Apache-2.0
// Bodies of spans.hpp.
#ifndef KDLIB_TRAIN_SPANS_INL_HPP
#define KDLIB_TRAIN_SPANS_INL_HPP

#include <cmath>
#include <utility>

#include "kdlib/core/error.hpp"
#include "kdlib/train/spans.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {
KDLIB_FUNC double weight_or_one(std::span<const float> weights, std::size_t r) {
  return weights.empty() ? 1.0 : static_cast<double>(weights[r]);
}
}  // namespace detail

KDLIB_FUNC SpanWeights::SpanWeights(std::vector<Span> spans) {
  require<ConfigError>(!spans.empty(), "[spans] no span is given");
  for (Span& span : spans) {
    require<ConfigError>(!span.name.empty(), "[spans] a span has no name");
    require<ConfigError>(span.weight >= 0 && std::isfinite(span.weight), "[spans] the weight of '", span.name, "' is ",
                         span.weight, "; it must be >= 0");
    for (const SpanLoss& other : spans_)
      require<ConfigError>(other.name != span.name, "[spans] '", span.name, "' is given twice");
    spans_.push_back({std::move(span.name), span.weight, {}});
  }
}

KDLIB_FUNC void SpanWeights::begin_step() {
  for (SpanLoss& span : spans_) span.loss = {};
  fixed_ = false;
}

KDLIB_FUNC std::size_t SpanWeights::checked(std::span<const std::int32_t> span_of_row,
                                            std::span<const float> row_weights) const {
  require<ShapeError>(row_weights.empty() || row_weights.size() == span_of_row.size(), "[spans] ", span_of_row.size(),
                      " span numbers and ", row_weights.size(), " weights");
  for (std::size_t r = 0; r < span_of_row.size(); ++r) {
    require<InputError>(span_of_row[r] >= -1 && span_of_row[r] < static_cast<std::int32_t>(spans_.size()),
                        "[spans] row ", r, " is in span ", span_of_row[r], " of ", spans_.size(), " (-1: in none)");
    require<InputError>(row_weights.empty() || (row_weights[r] >= 0 && std::isfinite(row_weights[r])),
                        "[spans] the weight of row ", r, " is negative or not finite");
  }
  return span_of_row.size();
}

KDLIB_FUNC void SpanWeights::count(std::span<const std::int32_t> span_of_row, std::span<const float> row_weights) {
  require<ConfigError>(!fixed_,
                       "[spans] count() after weights(): all rows of a step are counted before its first pass; "
                       "begin_step() starts the next");
  const std::size_t n = checked(span_of_row, row_weights);
  for (std::size_t r = 0; r < n; ++r)
    if (span_of_row[r] >= 0)
      spans_[static_cast<std::size_t>(span_of_row[r])].loss.weight += detail::weight_or_one(row_weights, r);
}

KDLIB_FUNC std::vector<float> SpanWeights::weights(std::span<const std::int32_t> span_of_row,
                                                   std::span<const float> row_weights) {
  fixed_ = true;
  const std::size_t n = checked(span_of_row, row_weights);
  std::vector<float> out(n, 0.0f);
  for (std::size_t r = 0; r < n; ++r) {
    const double a = detail::weight_or_one(row_weights, r);
    if (span_of_row[r] < 0 || a == 0) continue;
    const SpanLoss& span = spans_[static_cast<std::size_t>(span_of_row[r])];
    require<InputError>(span.loss.weight >= a, "[spans] row ", r, " of '", span.name,
                        "' was not counted; count() every micro-batch of the step first");
    out[r] = static_cast<float>(span.weight * a / span.loss.weight);
  }
  return out;
}

KDLIB_FUNC void SpanWeights::add(std::span<const std::int32_t> span_of_row, std::span<const float> row_weights,
                                 std::span<const double> row_values) {
  const std::size_t n = checked(span_of_row, row_weights);
  require<ShapeError>(row_values.size() == n, "[spans] ", n, " span numbers and ", row_values.size(),
                      " row values; ask head_loss for .row_values = true");
  for (std::size_t r = 0; r < n; ++r) {
    const double a = detail::weight_or_one(row_weights, r);
    if (span_of_row[r] >= 0 && a != 0) spans_[static_cast<std::size_t>(span_of_row[r])].loss.sum += a * row_values[r];
  }
}

KDLIB_FUNC void SpanWeights::count_batch(TokenBatch& batch) {
  require<InputError>(batch.spans.size() == batch.ids.size(), "[spans] ", spans_.size(), " spans are named, but ",
                      batch.sources.empty() ? std::string("a batch") : batch.sources.front(),
                      " does not say which span its tokens are in (TokenBatch::spans; \"spans\" in a line of ids)");
  if (batch.weights.empty()) {
    batch.weights.assign(batch.ids.size(), 1.0f);
    for (std::int64_t d = 0; d < batch.documents(); ++d)  // nothing follows a document's last token
      if (batch.length(d) > 0)
        batch.weights[static_cast<std::size_t>(batch.offsets[static_cast<std::size_t>(d + 1)] - 1)] = 0;
  }
  count(batch.spans, batch.weights);
}

KDLIB_FUNC std::vector<double> SpanWeights::sums_of(TokenBatch& batch) {
  begin_step();
  count_batch(batch);
  std::vector<double> sums;
  for (const SpanLoss& span : spans_) sums.push_back(span.loss.weight);
  return sums;
}

KDLIB_FUNC void SpanWeights::weigh_by(std::span<const double> sums, std::span<TokenBatch> mine) {
  require<ShapeError>(sums.size() == spans_.size(), "[spans] ", sums.size(), " sums for ", spans_.size(), " spans");
  begin_step();
  for (std::size_t i = 0; i < sums.size(); ++i) spans_[i].loss.weight = sums[i];
  for (TokenBatch& batch : mine) batch.weights = weights(batch.spans, batch.weights);
}

KDLIB_FUNC void SpanWeights::weigh(std::span<TokenBatch> step) {
  begin_step();
  for (TokenBatch& batch : step) count_batch(batch);
  for (TokenBatch& batch : step) batch.weights = weights(batch.spans, batch.weights);
}

KDLIB_FUNC double SpanWeights::loss() const {
  double total = 0;
  for (const SpanLoss& span : spans_) total += span.weight * span.loss.mean();
  return total;
}

KDLIB_NAMESPACE_END

#endif
