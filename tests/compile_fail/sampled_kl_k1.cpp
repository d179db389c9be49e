// SPDX-License-Identifier: Apache-2.0
// The k1 estimator as a loss: its gradient does not contain the teacher.
// expect: k1 cannot be a loss: its expected gradient is 0 and does not contain the teacher
#include "kdlib/loss/losses.hpp"

#if defined(KDLIB_CORRECTED)
constexpr auto size = sizeof(kdlib::SampledKl<kdlib::KlEstimator::k3>);
#else
constexpr auto size = sizeof(kdlib::SampledKl<kdlib::KlEstimator::k1>);
#endif
