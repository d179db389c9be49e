// SPDX-License-Identifier: Apache-2.0
// Body of token_divergence.hpp.
#ifndef KDLIB_EVAL_TOKEN_DIVERGENCE_INL_HPP
#define KDLIB_EVAL_TOKEN_DIVERGENCE_INL_HPP

#include <limits>

#include "kdlib/eval/token_divergence.hpp"
#include "kdlib/loss/forward_kl.hpp"
#include "kdlib/loss/head_loss.hpp"

KDLIB_NAMESPACE_BEGIN

template <class Student, class Teacher>
std::vector<double> token_divergence(Student& student, Teacher& teacher, const TokenBatch& documents,
                                     const EvaluationSettings& settings) {
  static_assert(TeacherSource<Teacher>,
                "kdlib: the second argument of token_divergence is not a TeacherSource: wrap a model in "
                "kd::LiveTeacher{model}");
  static_assert(Teacher::targets_type::teacher_rows,
                "kdlib: token_divergence compares whole distributions: the teacher must give whole rows "
                "(kd::LiveTeacher)");
  using T = typename Student::scalar_type;
  using D = typename Student::device_type;
  documents.check(student.vocab_size());
  std::vector<double> out;
  out.reserve(documents.ids.size());
  detail::each_group(documents, settings.tokens, [&](const TokenBatch& group) {
    const std::size_t first = out.size();
    out.resize(first + group.ids.size(), std::numeric_limits<double>::quiet_NaN());
    const TokenBatch::Rows rows = group.rows();
    if (rows.token.empty()) return;
    teacher.prepare(group);
    const Tensor<T, D> hidden =
        detail::hidden_rows(detail::evaluated(student, group, settings.replay_routing), rows.token);
    const std::vector<double> values =
        head_loss(ForwardKl{}, student.head(), hidden.view(), teacher.targets(0, hidden[0]),
                  RowInputs{rows.label, {}, {}}, 1.0, View<T, D>{}, static_cast<Parameter<T, D>*>(nullptr),
                  {.workspace_bytes = settings.workspace_bytes, .row_values = true})
            .row_values;
    for (std::size_t r = 0; r < values.size(); ++r)
      out[first + static_cast<std::size_t>(rows.token[r]) + 1] = values[r];
  });
  return out;
}

KDLIB_NAMESPACE_END

#endif
