// SPDX-License-Identifier: Apache-2.0
// Measures how close a student is to its teacher on given text: divergences, agreement, entropies, perplexity.
#ifndef KDLIB_EVAL_AGREEMENT_HPP
#define KDLIB_EVAL_AGREEMENT_HPP

#include "kdlib/eval/perplexity.hpp"
#include "kdlib/loss/forward_kl.hpp"
#include "kdlib/teacher/concepts.hpp"

KDLIB_NAMESPACE_BEGIN

/// Weighted means over the rows that count, at temperature 1. Entropies and divergences are in nats.
struct Agreement {
  double tokens = 0;         // sum of the weights of the rows
  double forward_kl = 0;     // KL(teacher || student)
  double reverse_kl = 0;     // KL(student || teacher)
  double top1 = 0;           // share of rows where both models have the same most probable token
  double top5 = 0;           // share of the five most probable tokens that both models have in common
  double top5_contains = 0;  // share of rows whose teacher's top token is among the student's five
  double student_entropy = 0;
  double teacher_entropy = 0;
  double perplexity = 1;  // of the text under the student
  double label_top1 = 0;  // share of rows whose next token is the student's most probable
  double forward_kl_error = 0, reverse_kl_error = 0, top1_error = 0,
         top5_error = 0;  // standard errors over documents (ratio_error())
  double loss = 0;        // weighted mean of the objective over rows
  double loss_error = 0;
};

/// Compares both models on documents with weights (text_lines.hpp, append_completion). The teacher is any TeacherSource
/// that gives whole distributions (LiveTeacher). `objective` is any row loss that needs no behaviour log-probabilities.
/// The same documents, thread count and backend give the same numbers. If no row counts, all numbers are 0 and the
/// perplexity is 1. InputError: an id is outside the vocabulary.
template <class Student, class Teacher, class Objective = ForwardKl>
Agreement agreement(Student& student, Teacher& teacher, const TokenBatch& documents,
                    const EvaluationSettings& settings = {}, const Objective& objective = {});

KDLIB_NAMESPACE_END

#include "kdlib/eval/agreement_inl.hpp"

#endif
