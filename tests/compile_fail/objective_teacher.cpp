// SPDX-License-Identifier: Apache-2.0
// A model where a teacher source belongs.
// expect: the first argument of Objective is not a TeacherSource
#include "compile_fail/support/parts.hpp"

#if defined(KDLIB_CORRECTED)
constexpr auto size = sizeof(kdlib::Objective<Teacher, kdlib::ForwardKl>);
#else
constexpr auto size = sizeof(kdlib::Objective<Model, kdlib::ForwardKl>);
#endif
