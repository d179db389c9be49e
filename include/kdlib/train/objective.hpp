// SPDX-License-Identifier: Apache-2.0
// What a student learns from: a teacher's signal and the loss that reads it.
#ifndef KDLIB_TRAIN_OBJECTIVE_HPP
#define KDLIB_TRAIN_OBJECTIVE_HPP

#include <utility>

#include "kdlib/teacher/concepts.hpp"

KDLIB_NAMESPACE_BEGIN

/// A teacher together with a row loss (a loss that is formed row by row). Trainer, which knows the student, checks at
/// compile time whether they fit.
template <class Teacher, class Loss>
class Objective {
  static_assert(TeacherSource<Teacher>,
                "kdlib: the first argument of Objective is not a TeacherSource (targets_type, vocab_size(), "
                "prepare(batch), targets(begin, count)); "
                "wrap a model in kd::LiveTeacher{model} or see kdlib/teacher/concepts.hpp");

 public:
  using teacher_type = Teacher;
  using loss_type = Loss;

  Objective(Teacher teacher, Loss loss) : teacher_(std::move(teacher)), loss_(std::move(loss)) {}

  Teacher& teacher() { return teacher_; }
  const Loss& loss() const { return loss_; }

 private:
  Teacher teacher_;
  Loss loss_;
};

KDLIB_NAMESPACE_END

#endif
