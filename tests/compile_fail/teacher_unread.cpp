// SPDX-License-Identifier: Apache-2.0
// What a loss of the student alone is given has no teacher's fields, whatever type its entry() names.
// expect: StudentEntry
// expect: has no member named
#include "kdlib/backend/cpu.hpp"
#include "kdlib/loss/losses.hpp"

struct Squares {
  template <class E>
  KDLIB_INLINE auto entry(const kdlib::RowStatistics&, const E& x) const {
#ifdef KDLIB_CORRECTED
    const auto value = x.p_s * x.p_s;
#else
    const auto value = x.p_s * x.p_t;
#endif
    return kdlib::EntryLoss<std::decay_t<decltype(value)>>{value, value};
  }
};
static_assert(kdlib::has_entry<Squares>);
