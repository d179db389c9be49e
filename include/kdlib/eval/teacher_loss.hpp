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
  return detail::loss_of_rows(model, documents, loss, settings, [&](const TokenBatch& group, std::int64_t count) {
    teacher.prepare(group);
    return teacher.targets(0, count);
  });
}

KDLIB_NAMESPACE_END

#endif
