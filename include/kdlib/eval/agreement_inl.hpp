// SPDX-License-Identifier: Apache-2.0
// Body of agreement.hpp: one value-only pass of the fused head and loss, whose metrics are the answer.
#ifndef KDLIB_EVAL_AGREEMENT_INL_HPP
#define KDLIB_EVAL_AGREEMENT_INL_HPP

#include "kdlib/eval/agreement.hpp"
#include "kdlib/loss/forward_kl.hpp"

KDLIB_NAMESPACE_BEGIN

template <class Student, class Teacher>
Agreement agreement(Student& student, Teacher& teacher, const TokenBatch& documents, const EvaluationSettings& settings) {
  static_assert(TeacherSource<Teacher>, "kdlib: the second argument of agreement is not a TeacherSource: wrap a model in kd::LiveTeacher{model}");
  static_assert(Teacher::targets_type::teacher_rows, "kdlib: agreement compares whole distributions: the teacher must give whole rows (kd::LiveTeacher)");
  using T = typename Student::scalar_type;
  using D = typename Student::device_type;
  documents.check(student.vocab_size());
  RowMetrics m;
  detail::each_group(documents, settings.tokens, [&](const TokenBatch& group) {
    const TokenBatch::Rows rows = group.rows();
    if (rows.token.empty()) return;
    teacher.prepare(group);
    const Tensor<T, D> hidden = detail::hidden_rows(Tensor<T, D>(student.forward(group)), rows.token);
    const auto targets = teacher.targets(0, hidden[0]);
    m += head_loss(ForwardKl{}, student.head(), hidden.view(), targets, RowInputs{rows.label, rows.weight, {}}, 1.0, View<T, D>{},
                   static_cast<Parameter<T, D>*>(nullptr), {.workspace_bytes = settings.workspace_bytes, .metrics = true})
             .metrics;
  });
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
  return a;
}

KDLIB_NAMESPACE_END

#endif
