// SPDX-License-Identifier: Apache-2.0
// How close a student is to its teacher on given text: divergences, agreement, entropies, perplexity.
#ifndef KDLIB_EVAL_AGREEMENT_HPP
#define KDLIB_EVAL_AGREEMENT_HPP

#include "kdlib/eval/perplexity.hpp"
#include "kdlib/loss/forward_kl.hpp"
#include "kdlib/teacher/concepts.hpp"

KDLIB_NAMESPACE_BEGIN

/// Weighted means over the rows that count, at temperature 1; entropies and divergences in nats.
struct Agreement {
  double tokens = 0;         // weight of the rows
  double forward_kl = 0;     // KL(teacher || student)
  double reverse_kl = 0;     // KL(student || teacher)
  double top1 = 0;           // share of rows with the same most probable token
  double top5 = 0;           // share of the five most probable tokens in common
  double top5_contains = 0;  // share of rows where the teacher's first is among the student's five
  double student_entropy = 0;
  double teacher_entropy = 0;
  double perplexity = 1;  // of the text under the student
  double label_top1 = 0;  // share of rows whose next token is the student's most probable
  double forward_kl_error = 0, reverse_kl_error = 0, top1_error = 0,
         top5_error = 0;  // standard errors over documents (ratio_error)
  double loss = 0;        // of the objective, a row of weight 1
  double loss_error = 0;
};

/// Compares on documents with weights (text_lines.hpp, append_completion). The same numbers for the same documents,
/// threads and backend; the teacher is any TeacherSource with whole rows (LiveTeacher). InputError for ids outside a
/// vocabulary. No rows: zeros, perplexity 1. `objective` is any row loss that needs no behaviour log-probabilities.
template <class Student, class Teacher, class Objective = ForwardKl>
Agreement agreement(Student& student, Teacher& teacher, const TokenBatch& documents,
                    const EvaluationSettings& settings = {}, const Objective& objective = {});

KDLIB_NAMESPACE_END

#include "kdlib/eval/agreement_inl.hpp"

#endif
