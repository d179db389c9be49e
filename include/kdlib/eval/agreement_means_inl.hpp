// SPDX-License-Identifier: Apache-2.0
// The means of agreement.hpp from their sums.
#ifndef KDLIB_EVAL_AGREEMENT_MEANS_INL_HPP
#define KDLIB_EVAL_AGREEMENT_MEANS_INL_HPP

#include "kdlib/eval/agreement.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {

KDLIB_FUNC void AgreementParts::add(const AgreementPart& part) {
  const RowMetrics& m = part.metrics;
  loss.push_back(part.loss.sum);
  loss_weight.push_back(part.loss.weight);
  weight.push_back(m.teacher_weight);
  forward_kl.push_back(m.forward_kl);
  reverse_kl.push_back(m.reverse_kl);
  top1.push_back(m.top1_agreement);
  top5.push_back(m.top5_overlap);
}

KDLIB_FUNC Agreement agreement_of(const RowMetrics& m, const LossSum& loss, const AgreementParts& parts) {
  Agreement a;
  if (m.weight <= 0) return a;
  a.tokens = m.weight;
  a.student_entropy = m.student_entropy / m.weight;
  a.teacher_entropy = m.teacher_entropy / m.teacher_weight;
  a.forward_kl = m.forward_kl / m.teacher_weight;
  a.reverse_kl = m.reverse_kl / m.teacher_weight;
  a.top1 = m.top1_agreement / m.teacher_weight;
  a.top5 = m.top5_overlap / m.teacher_weight;
  a.top5_contains = m.top5_contains / m.teacher_weight;
  a.perplexity = Perplexity{m.label_weight, m.label_log_prob / m.label_weight}.value();
  a.label_top1 = m.label_top1 / m.label_weight;
  a.forward_kl_error = ratio_error(parts.forward_kl, parts.weight);
  a.reverse_kl_error = ratio_error(parts.reverse_kl, parts.weight);
  a.top1_error = ratio_error(parts.top1, parts.weight);
  a.top5_error = ratio_error(parts.top5, parts.weight);
  a.loss = loss.mean();
  a.loss_error = ratio_error(parts.loss, parts.loss_weight);
  return a;
}

}  // namespace detail

KDLIB_NAMESPACE_END

#endif
