// SPDX-License-Identifier: Apache-2.0
// The raw reverse KL on a cut support is smallest where the student leaves the support.
// expect: the raw reverse KL on a cut support is no loss: it is smallest where the student drains its mass off the
// support
#include "kdlib/loss/losses.hpp"

#ifdef KDLIB_CORRECTED
inline constexpr auto loss = kdlib::TopKReverseKl<kdlib::TopKMass::tail>{};
#else
inline constexpr auto loss = kdlib::TopKReverseKl<kdlib::TopKMass::raw>{};
#endif
