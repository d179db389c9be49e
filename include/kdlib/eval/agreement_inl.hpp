// SPDX-License-Identifier: Apache-2.0
// Body of agreement.hpp: one value-only pass of the fused head and loss, whose metrics are the answer.
#ifndef KDLIB_EVAL_AGREEMENT_INL_HPP
#define KDLIB_EVAL_AGREEMENT_INL_HPP

#include "kdlib/eval/agreement.hpp"
#include "kdlib/loss/forward_kl.hpp"

KDLIB_NAMESPACE_BEGIN

namespace detail {
/// Sums over the rows of one document.
struct AgreementPart {
  LossSum loss;
  RowMetrics metrics;
};
/// Sums of each document.
struct AgreementParts {
  std::vector<double> weight, forward_kl, reverse_kl, top1, top5, loss, loss_weight;

  void add(const AgreementPart& part);
};

/// The means.
Agreement agreement_of(const RowMetrics& m, const LossSum& loss, const AgreementParts& parts);
}  // namespace detail

template <class Student, class Teacher, class Objective>
Agreement agreement(Student& student, Teacher& teacher, const TokenBatch& documents, const EvaluationSettings& settings,
                    const Objective& objective) {
  static_assert(
      TeacherSource<Teacher>,
      "kdlib: the second argument of agreement is not a TeacherSource: wrap a model in kd::LiveTeacher{model}");
  static_assert(Teacher::targets_type::teacher_rows,
                "kdlib: agreement compares whole distributions: the teacher must give whole rows (kd::LiveTeacher)");
  using T = typename Student::scalar_type;
  using D = typename Student::device_type;
  documents.check(student.vocab_size());
  const auto measure_group = [&](const TokenBatch& group, const auto& add) {
    const TokenBatch::Rows rows = group.rows();
    if (rows.token.empty()) return;
    teacher.prepare(group);
    const Tensor<T, D> hidden =
        detail::hidden_rows(detail::evaluated(student, group, settings.replay_routing), rows.token);
    for (std::int64_t first = 0, document = 0; document < group.documents();
         ++document) {  // each by itself: its sums give the standard errors
      std::int64_t last = first;
      while (last < hidden[0] &&
             rows.token[static_cast<std::size_t>(last)] < group.offsets[static_cast<std::size_t>(document + 1)])
        ++last;
      if (last == first) continue;
      const auto at = static_cast<std::size_t>(first), count = static_cast<std::size_t>(last - first);
      const HeadLossResult one =
          head_loss(objective, student.head(), hidden.rows(first, last - first), teacher.targets(first, last - first),
                    RowInputs{std::span(rows.label).subspan(at, count), std::span(rows.weight).subspan(at, count), {}},
                    1.0, View<T, D>{}, static_cast<Parameter<T, D>*>(nullptr),
                    {.workspace_bytes = settings.workspace_bytes, .metrics = true});
      add(detail::AgreementPart{one.loss, one.metrics});
      first = last;
    }
  };
  RowMetrics m;
  LossSum loss;
  detail::AgreementParts parts;
  for (const auto& part : detail::parts_of_groups<detail::AgreementPart>(documents, settings, measure_group)) {
    parts.add(part);
    m += part.metrics;
    loss += part.loss;
  }
  return detail::agreement_of(m, loss, parts);
}

KDLIB_NAMESPACE_END

#if KDLIB_HEADER_ONLY
#include "kdlib/eval/agreement_means_inl.hpp"
#endif

#endif
