// SPDX-License-Identifier: Apache-2.0
// The coefficient of a policy gradient carries no derivative; dropping one takes the word detach.
// expect: deleted
#include "kdlib/core/math.hpp"

kdlib::Dual f(kdlib::Dual log_prob) {
#ifdef KDLIB_CORRECTED
  const kdlib::Detached advantage = kdlib::detach(log_prob);
#else
  const kdlib::Detached advantage(log_prob);
#endif
  return advantage * log_prob;
}
