// SPDX-License-Identifier: Apache-2.0
// Sums of metrics and results.
#ifndef KDLIB_LOSS_CONCEPTS_INL_HPP
#define KDLIB_LOSS_CONCEPTS_INL_HPP

#include "kdlib/loss/concepts.hpp"

KDLIB_NAMESPACE_BEGIN

inline RowMetrics& RowMetrics::operator+=(const RowMetrics& o) {
  weight += o.weight, teacher_weight += o.teacher_weight, label_weight += o.label_weight;
  student_entropy += o.student_entropy, teacher_entropy += o.teacher_entropy;
  forward_kl += o.forward_kl, reverse_kl += o.reverse_kl;
  top1_agreement += o.top1_agreement, top5_overlap += o.top5_overlap, top5_contains += o.top5_contains;
  label_log_prob += o.label_log_prob, label_top1 += o.label_top1;
  return *this;
}

inline HeadLossResult& HeadLossResult::operator+=(const HeadLossResult& o) {
  loss += o.loss;
  metrics += o.metrics;
  row_values.insert(row_values.end(), o.row_values.begin(), o.row_values.end());
  return *this;
}

KDLIB_NAMESPACE_END

#endif
