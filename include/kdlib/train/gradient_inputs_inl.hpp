// SPDX-License-Identifier: Apache-2.0
// Bodies of gradient_step.hpp that do not depend on a student: settings, inputs and weights of rows.
#ifndef KDLIB_TRAIN_GRADIENT_INPUTS_INL_HPP
#define KDLIB_TRAIN_GRADIENT_INPUTS_INL_HPP

#include "kdlib/train/gradient_step.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {

KDLIB_FUNC HeadLossSettings head_loss_settings(const GradientSettings& s) {
  HeadLossSettings out{.metrics = true, .jensen_shannon = s.jensen_shannon, .row_values = s.spans};
  if (s.workspace_bytes > 0) out.workspace_bytes = s.workspace_bytes;
  out.gradient_threshold = s.gradient_threshold;
  return out;
}

KDLIB_FUNC RowInputs inputs_of(const TokenBatch::Rows& rows, const RowRun& run) {
  const auto part = [&run](const auto& values) {
    const std::span all(values);
    return all.empty() ? all : all.subspan(static_cast<std::size_t>(run.begin), static_cast<std::size_t>(run.count));
  };
  return {part(rows.label), part(rows.weight), part(rows.behaviour)};
}

KDLIB_FUNC void add_span_losses(std::vector<LossSum>& sums, const TokenBatch::Rows& rows,
                                const std::vector<double>& values) {
  for (std::size_t r = 0; r < rows.span.size(); ++r) {
    if (rows.span[r] < 0) continue;
    const auto span = static_cast<std::size_t>(rows.span[r]);
    if (sums.size() <= span) sums.resize(span + 1);
    sums[span].sum += static_cast<double>(rows.weight[r]) * values[r];
    sums[span].weight += static_cast<double>(rows.weight[r]);
  }
}

}  // namespace detail

KDLIB_FUNC double total_weight(std::span<const TokenBatch> batches) {
  double sum = 0;
  for (const TokenBatch& batch : batches) sum += batch.weight();
  return sum;
}

KDLIB_NAMESPACE_END

#endif
