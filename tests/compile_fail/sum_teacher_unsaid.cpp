// SPDX-License-Identifier: Apache-2.0
// A loss of a sum that takes the teacher's fields and does not say so.
// expect: entry(row, x) of a Term's loss takes an Entry, which holds p_t and log_ratio of the teacher, but the
// unsaid: each Term of a Sum holds a row loss
#include "kdlib/loss/losses.hpp"

struct SquaredError {
#if defined(KDLIB_CORRECTED)
  static constexpr bool reads_teacher = true;
#endif
  template <class P>
  KDLIB_INLINE kdlib::EntryLoss<P> entry(const kdlib::RowStatistics&, const kdlib::Entry<P>& x) const {
    const P d = x.p_s - x.p_t;
    return {d * d, P(2) * d * x.p_s};
  }
};
const auto loss = kdlib::Sum{kdlib::Term{1, SquaredError{}}};
