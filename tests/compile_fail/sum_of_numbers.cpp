// SPDX-License-Identifier: Apache-2.0
// A sum over something that is no loss.
// expect: each Term of a Sum holds a row loss
#include "kdlib/loss/losses.hpp"

#if defined(KDLIB_CORRECTED)
constexpr auto size = sizeof(kdlib::Sum<kdlib::CrossEntropy>);
#else
constexpr auto size = sizeof(kdlib::Sum<int>);
#endif
