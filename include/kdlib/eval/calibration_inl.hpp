// SPDX-License-Identifier: Apache-2.0
// Body of calibration.hpp.
#ifndef KDLIB_EVAL_CALIBRATION_INL_HPP
#define KDLIB_EVAL_CALIBRATION_INL_HPP

#include <algorithm>
#include <cmath>

#include "kdlib/core/parallel.hpp"
#include "kdlib/eval/calibration.hpp"
#include "kdlib/rollout/head_logits.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

struct Confidence {
  double probability = 0;
  std::int32_t id = 0;
};

/// The most probable id of a row of logits and its probability.
template <class T>
Confidence confidence_of(const T* row, std::int64_t columns) {
  const T* largest = std::max_element(row, row + columns);
  double sum = 0;
  for (std::int64_t i = 0; i < columns; ++i)
    sum += std::exp(static_cast<double>(row[i]) - static_cast<double>(*largest));
  return {1 / sum, static_cast<std::int32_t>(largest - row)};
}

}  // namespace detail

template <class M>
Calibration calibration(M& model, const TokenBatch& documents, std::int64_t bins, const EvaluationSettings& settings) {
  using T = typename M::scalar_type;
  using D = typename M::device_type;
  require<ConfigError>(bins >= 1, "[calibration] bins is ", bins, "; it must be 1 or more");
  documents.check(model.vocab_size());
  Calibration out;
  out.bins.resize(static_cast<std::size_t>(bins));
  const std::int64_t columns = model.head().columns();
  const std::int64_t chunk = std::max<std::int64_t>(
      1, settings.workspace_bytes / (columns * static_cast<std::int64_t>(sizeof(logit_t<D, T>))));
  detail::each_group(documents, settings.tokens, [&](const TokenBatch& group) {
    const TokenBatch::Rows rows = group.rows();
    if (rows.token.empty()) return;
    const Tensor<T, D> hidden =
        detail::hidden_rows(detail::evaluated(model, group, settings.replay_routing), rows.token);
    const auto count = static_cast<std::int64_t>(rows.token.size());
    for (std::int64_t begin = 0; begin < count; begin += chunk) {
      const std::int64_t size = std::min(chunk, count - begin);
      const auto logits = head_logits(model.head(), View<const T, D>(hidden.rows(begin, size)));
      std::vector<detail::Confidence> found(static_cast<std::size_t>(size));
      parallel_for(size, 8, [&](std::int64_t from, std::int64_t to) {
        for (std::int64_t r = from; r < to; ++r)
          found[static_cast<std::size_t>(r)] = detail::confidence_of(logits.data() + r * columns, columns);
      });
      for (std::int64_t r = 0; r < size; ++r) {
        const auto [probability, id] = found[static_cast<std::size_t>(r)];
        const auto row = static_cast<std::size_t>(begin + r);
        const auto bin = std::clamp<std::int64_t>(
            static_cast<std::int64_t>(std::ceil(probability * static_cast<double>(bins))) - 1, 0, bins - 1);
        CalibrationBin& b = out.bins[static_cast<std::size_t>(bin)];
        const double weight = static_cast<double>(rows.weight[row]);
        b.weight += weight;
        b.confidence += weight * probability;
        b.accuracy += id == rows.label[row] ? weight : 0;
      }
    }
  });
  for (CalibrationBin& b : out.bins) {
    if (b.weight <= 0) continue;
    out.tokens += b.weight;
    out.confidence += b.confidence;
    out.accuracy += b.accuracy;
    out.error += std::abs(b.accuracy - b.confidence);
    b.confidence /= b.weight;
    b.accuracy /= b.weight;
  }
  if (out.tokens > 0)
    for (double* x : {&out.confidence, &out.accuracy, &out.error}) *x /= out.tokens;
  return out;
}

KDLIB_NAMESPACE_END

#endif
