// SPDX-License-Identifier: Apache-2.0
// Text by something that cannot write.
// expect: the first argument of TeacherWritten cannot write
#include "kdlib/rollout/teacher_written.hpp"
#include "support/toy_model.hpp"

#if defined(KDLIB_CORRECTED)
constexpr auto size = sizeof(kdlib::TeacherWritten<kdlib_tests::ToyModel<float>>);
#else
constexpr auto size = sizeof(kdlib::TeacherWritten<int>);
#endif
