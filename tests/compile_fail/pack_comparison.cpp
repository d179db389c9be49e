// SPDX-License-Identifier: Apache-2.0
// entry() runs on packs of entries, which have no order: the message names what to write.
// expect: a pack of entries cannot be compared; write where_not_negative(a - b, x, y) for (a >= b ? x : y)
#include "kdlib/backend/cpu.hpp"
#include "kdlib/loss/losses.hpp"

struct Hinge {
  static constexpr bool reads_teacher = true;
  template <class P>
  KDLIB_INLINE kdlib::EntryLoss<P> entry(const kdlib::RowStatistics&, const kdlib::Entry<P>& x) const {
#ifdef KDLIB_CORRECTED
    const P d = kdlib::where_not_negative(x.p_t - x.p_s, x.p_t - x.p_s, P(0));
#else
    const P d = x.p_t > x.p_s ? x.p_t - x.p_s : P(0);
#endif
    return {2 * d, -2 * x.p_s};
  }
};

void use(kdlib::View<const float, kdlib::Cpu> z, kdlib::View<float, kdlib::Cpu> gradient) {
  kdlib::row_loss(Hinge{}, z, kdlib::LogitTargets<float, kdlib::Cpu>{z}, {}, 1.0, gradient);
}
