// SPDX-License-Identifier: Apache-2.0
// A placeholder for runs without a teacher, for losses that read only the next token of the text.
#ifndef KDLIB_TEACHER_NONE_HPP
#define KDLIB_TEACHER_NONE_HPP

#include "kdlib/loss/concepts.hpp"
#include "kdlib/teacher/concepts.hpp"

KDLIB_NAMESPACE_BEGIN

/// A TeacherSource that gives no signal: Objective{NoTeacher{student.vocab_size()}, CrossEntropy{}} is plain
/// fine-tuning.
struct NoTeacher {
  using targets_type = NoTargets;

  std::int64_t vocabulary = 0;  // size of the student's vocabulary

  std::int64_t vocab_size() const { return vocabulary; }
  void prepare(const TokenBatch&) {}
  NoTargets targets(std::int64_t, std::int64_t) const { return {}; }
  SettingsList describe() const { return {{"teacher", "none"}}; }
};

KDLIB_NAMESPACE_END

#endif
