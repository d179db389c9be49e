// SPDX-License-Identifier: Apache-2.0
// Measures how far a student is from its teacher at each token of a text, as a heat map shows it.
#ifndef KDLIB_EVAL_TOKEN_DIVERGENCE_HPP
#define KDLIB_EVAL_TOKEN_DIVERGENCE_HPP

#include <vector>

#include "kdlib/eval/perplexity.hpp"
#include "kdlib/teacher/concepts.hpp"

KDLIB_NAMESPACE_BEGIN

/// Returns one value for each token of `documents`: KL(teacher || student), in nats, of the distributions that predict
/// the token, which are those of the row before. The value is NaN if that row does not count (in a prompt) or does not
/// exist (at the first token of a document). The teacher is any TeacherSource that gives whole distributions.
/// InputError: an id is outside the vocabulary.
template <class Student, class Teacher>
std::vector<double> token_divergence(Student& student, Teacher& teacher, const TokenBatch& documents,
                                     const EvaluationSettings& settings = {});

KDLIB_NAMESPACE_END

#include "kdlib/eval/token_divergence_inl.hpp"

#endif
