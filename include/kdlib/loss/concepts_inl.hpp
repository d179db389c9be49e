// SPDX-License-Identifier: Apache-2.0
// Sums of metrics and results.
#ifndef KDLIB_LOSS_CONCEPTS_INL_HPP
#define KDLIB_LOSS_CONCEPTS_INL_HPP

#include <algorithm>

#include "kdlib/loss/concepts.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {
constexpr double RowMetrics::*row_metric_fields[] = {&RowMetrics::weight,
                                                     &RowMetrics::teacher_weight,
                                                     &RowMetrics::label_weight,
                                                     &RowMetrics::js_weight,
                                                     &RowMetrics::support_weight,
                                                     &RowMetrics::clamp_weight,
                                                     &RowMetrics::student_entropy,
                                                     &RowMetrics::teacher_entropy,
                                                     &RowMetrics::forward_kl,
                                                     &RowMetrics::reverse_kl,
                                                     &RowMetrics::top1_agreement,
                                                     &RowMetrics::top5_overlap,
                                                     &RowMetrics::top5_contains,
                                                     &RowMetrics::label_log_prob,
                                                     &RowMetrics::label_top1,
                                                     &RowMetrics::label_rank,
                                                     &RowMetrics::js,
                                                     &RowMetrics::tail_loss,
                                                     &RowMetrics::teacher_support_mass,
                                                     &RowMetrics::student_support_mass,
                                                     &RowMetrics::clamped};
static_assert(sizeof(RowMetrics) == sizeof(row_metric_fields) / sizeof(row_metric_fields[0]) * sizeof(double),
              "a field of RowMetrics is not in the list");

/// Sums the Jensen-Shannon divergence with beta = 1/2: log(p_s / m) = -log((1 + e^-D) / 2), from the side where e^ is
/// at most 1.
struct JsEntry {
  static constexpr bool reads_teacher = true;
  template <class P>
  KDLIB_INLINE EntryLoss<P> entry(const RowStatistics&, const Entry<P>& x) const {
    const P d = x.log_ratio, size = max(d, -d);
    const P larger =
        -log1p(P(0.5) * expm1(-size));  // log(p / m) of the larger of both; of the smaller one it is this - |D|
    const P phi = where_not_negative(d, larger, larger - size), psi = where_not_negative(d, larger - size, larger);
    return {P(0.5) * (x.p_s * phi + x.p_t * psi), P(0)};
  }
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
