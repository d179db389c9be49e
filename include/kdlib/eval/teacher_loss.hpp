// SPDX-License-Identifier: Apache-2.0
// A loss against a teacher of any kind on given text, without a gradient: what a top-k cache can tell of held-out text.
#ifndef KDLIB_EVAL_TEACHER_LOSS_HPP
#define KDLIB_EVAL_TEACHER_LOSS_HPP

#include "kdlib/eval/perplexity.hpp"
#include "kdlib/teacher/concepts.hpp"

KDLIB_NAMESPACE_BEGIN

/// The sum of a loss over the rows that count, and their weight. The teacher is any TeacherSource whose targets tell
/// what the loss reads; it is asked once for each group of documents (EvaluationSettings::tokens).
template <class M, TeacherSource Teacher, class Loss>
LossSum teacher_loss(M& model, Teacher& teacher, const TokenBatch& documents, const Loss& loss,
                     const EvaluationSettings& settings = {}) {
  using T = typename M::scalar_type;
  using D = typename M::device_type;
  documents.check(model.vocab_size());
  LossSum sum;
  detail::each_group(documents, settings.tokens, [&](const TokenBatch& group) {
    const TokenBatch::Rows rows = group.rows();
    if (rows.token.empty()) return;
    teacher.prepare(group);
    const Tensor<T, D> hidden =
        detail::hidden_rows(detail::evaluated(model, group, settings.replay_routing), rows.token);
    sum += head_loss(loss, model.head(), hidden.view(), teacher.targets(0, hidden[0]),
                     RowInputs{rows.label, rows.weight, {}}, 1.0, View<T, D>{}, static_cast<Parameter<T, D>*>(nullptr),
                     {.workspace_bytes = settings.workspace_bytes})
               .loss;
  });
  return sum;
}

KDLIB_NAMESPACE_END

#endif
