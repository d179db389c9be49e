// SPDX-License-Identifier: Apache-2.0
// A teacher over something that is no model.
// expect: LiveTeacher needs a language model
#include "compile_fail/support/parts.hpp"

#if defined(KDLIB_CORRECTED)
constexpr auto size = sizeof(kdlib::LiveTeacher<Model>);
#else
constexpr auto size = sizeof(kdlib::LiveTeacher<int>);
#endif
