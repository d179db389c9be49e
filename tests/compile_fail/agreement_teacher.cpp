// SPDX-License-Identifier: Apache-2.0
// A comparison with a teacher that keeps only the most probable tokens.
// expect: agreement compares whole distributions
#include "kdlib/backend/cpu.hpp"
#include "kdlib/eval/agreement.hpp"
#include "kdlib/teacher/cached.hpp"
#include "kdlib/teacher/live.hpp"
#include "support/toy_model.hpp"

using Model = kdlib_tests::ToyModel<float>;
#if defined(KDLIB_CORRECTED)
auto compare(Model& student, kdlib::LiveTeacher<Model>& teacher, const kdlib::TokenBatch& text) {
  return kdlib::agreement(student, teacher, text);
}
#else
auto compare(Model& student, kdlib::CachedTeacher<kdlib::Cpu>& teacher, const kdlib::TokenBatch& text) {
  return kdlib::agreement(student, teacher, text);
}
#endif
