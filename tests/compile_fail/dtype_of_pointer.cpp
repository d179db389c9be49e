// SPDX-License-Identifier: Apache-2.0
// A type that no file holds.
// expect: this type has no DType
#include "kdlib/core/dtype.hpp"

#if defined(KDLIB_CORRECTED)
constexpr auto type = kdlib::dtype_of<float>();
#else
constexpr auto type = kdlib::dtype_of<int*>();
#endif
