// SPDX-License-Identifier: Apache-2.0
// The estimator k1 of the reverse KL is no loss: its expected gradient is 0.
// expect: k1 cannot be a loss: its expected gradient is 0 and does not contain the teacher. Use kdlib::PolicyGradient
#include "kdlib/loss/losses.hpp"

#ifdef KDLIB_CORRECTED
inline constexpr auto loss = kdlib::SampledKl<kdlib::KlEstimator::k2>{};
#else
inline constexpr auto loss = kdlib::SampledKl<kdlib::KlEstimator::k1>{};
#endif
