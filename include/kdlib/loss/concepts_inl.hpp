// SPDX-License-Identifier: Apache-2.0
// Sums of metrics and results.
#ifndef KDLIB_LOSS_CONCEPTS_INL_HPP
#define KDLIB_LOSS_CONCEPTS_INL_HPP

#include <algorithm>

#include "kdlib/loss/concepts.hpp"
#include "kdlib/loss/terms.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {
constexpr double RowMetrics::*row_metric_fields[] = {
    &RowMetrics::weight,           &RowMetrics::teacher_weight,       &RowMetrics::label_weight,
    &RowMetrics::js_weight,        &RowMetrics::support_weight,       &RowMetrics::clamp_weight,
    &RowMetrics::threshold_weight, &RowMetrics::student_entropy,      &RowMetrics::teacher_entropy,
    &RowMetrics::forward_kl,       &RowMetrics::reverse_kl,           &RowMetrics::top1_agreement,
    &RowMetrics::top5_overlap,     &RowMetrics::top5_contains,        &RowMetrics::label_log_prob,
    &RowMetrics::label_top1,       &RowMetrics::label_rank,           &RowMetrics::js,
    &RowMetrics::tail_loss,        &RowMetrics::teacher_support_mass, &RowMetrics::student_support_mass,
    &RowMetrics::clamped,          &RowMetrics::skipped_blocks};
static_assert(sizeof(RowMetrics) == sizeof(row_metric_fields) / sizeof(row_metric_fields[0]) * sizeof(double),
              "a field of RowMetrics is not in the list");

/// Sums the Jensen-Shannon divergence with beta = 1/2.
struct JsEntry {
  static constexpr bool reads_teacher = true;
  template <class P>
  KDLIB_INLINE EntryLoss<P> entry(const RowStatistics&, const Entry<P>& x) const {
    const P half = P(0.5), s = half * x.p_s, t = half * x.p_t;
    const auto logs = MixtureLogs<P>::of(half, half, s, t, x.log_ratio);
    return {fma(t, logs.teacher, s * logs.student), P(0)};
  }
  KDLIB_HOST_DEVICE double largest() const { return 0.6931471805599453; }  // log 2
};
}  // namespace detail

inline RowMetrics& RowMetrics::operator+=(const RowMetrics& o) {
  for (const auto field : detail::row_metric_fields) this->*field += o.*field;
  return *this;
}

inline void RowSpread::add(double value, double row_weight) { *this += {row_weight, value, 0, value, value}; }

inline RowSpread& RowSpread::operator+=(const RowSpread& o) {
  if (o.weight <= 0) return *this;
  const double total = weight + o.weight, step = o.mean - mean;
  squares += o.squares + step * step * (weight * o.weight / total);
  mean = weight > 0 ? mean + step * (o.weight / total) : o.mean;
  weight = total;
  least = std::min(least, o.least);
  most = std::max(most, o.most);
  return *this;
}

inline HeadLossResult& HeadLossResult::operator+=(const HeadLossResult& o) {
  loss += o.loss;
  metrics += o.metrics;
  kl += o.kl;
  row_values.insert(row_values.end(), o.row_values.begin(), o.row_values.end());
  return *this;
}

KDLIB_NAMESPACE_END

#endif
