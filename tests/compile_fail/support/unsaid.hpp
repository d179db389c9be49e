// SPDX-License-Identifier: Apache-2.0
// A loss that takes the teacher's fields and says so only in the corrected programs.
#ifndef KDLIB_TESTS_COMPILE_FAIL_SUPPORT_UNSAID_HPP
#define KDLIB_TESTS_COMPILE_FAIL_SUPPORT_UNSAID_HPP

#include "kdlib/loss/losses.hpp"

struct SquaredError {
#ifdef KDLIB_CORRECTED
  static constexpr bool reads_teacher = true;
#endif
  template <class P>
  KDLIB_INLINE kdlib::EntryLoss<P> entry(const kdlib::RowStatistics&, const kdlib::Entry<P>& x) const {
    const P d = x.p_s - x.p_t;
    return {d * d, P(2) * d * x.p_s};
  }
};

#endif
