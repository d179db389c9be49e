// SPDX-License-Identifier: Apache-2.0
// A trainer of a student whose backend header is not included.
// expect: no backend for the student's device and scalar type: include kdlib/backend/cpu.hpp
#if !defined(KDLIB_CORRECTED)
#define WITHOUT_BACKEND
#endif
#include "compile_fail/support/parts.hpp"

#if defined(KDLIB_CORRECTED)
constexpr auto size = trainer_size();
#else
constexpr auto size = trainer_size();
#endif
