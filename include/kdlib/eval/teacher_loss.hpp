// SPDX-License-Identifier: Apache-2.0
// Computes a loss against a teacher of any kind on given text, without a gradient. With a cache of top-k probabilities
// this is the measure that is possible on held-out text.
#ifndef KDLIB_EVAL_TEACHER_LOSS_HPP
#define KDLIB_EVAL_TEACHER_LOSS_HPP

#include "kdlib/eval/perplexity.hpp"
#include "kdlib/teacher/concepts.hpp"

KDLIB_NAMESPACE_BEGIN

/// Returns the sum of a loss over the rows that count, and their weight. The teacher is any TeacherSource whose targets
/// hold what the loss reads. The teacher is asked once for each group of documents (EvaluationSettings::tokens).
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
