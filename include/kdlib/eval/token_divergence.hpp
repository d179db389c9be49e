// SPDX-License-Identifier: Apache-2.0
// How far a student is from its teacher at each token of a text: what a heat map shows.
#ifndef KDLIB_EVAL_TOKEN_DIVERGENCE_HPP
#define KDLIB_EVAL_TOKEN_DIVERGENCE_HPP

#include <vector>

#include "kdlib/eval/perplexity.hpp"
#include "kdlib/teacher/concepts.hpp"

KDLIB_NAMESPACE_BEGIN

/// KL(teacher || student) in nats of the distribution that each token was drawn from, as one value a token of
/// `documents`: the value of token i belongs to the row before it. NaN where the row does not count (a prompt, the
/// first token of a document). The teacher is any TeacherSource with whole rows. InputError: ids outside a vocabulary.
template <class Student, class Teacher>
std::vector<double> token_divergence(Student& student, Teacher& teacher, const TokenBatch& documents,
                                     const EvaluationSettings& settings = {});

KDLIB_NAMESPACE_END

#include "kdlib/eval/token_divergence_inl.hpp"

#endif
