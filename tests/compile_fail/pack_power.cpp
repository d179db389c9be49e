// SPDX-License-Identifier: Apache-2.0
// There is no power of a pack of entries: the message names what to write.
// expect: there is no pow; write x * x, kdlib::sqrt(x), or kdlib::exp(P(y) * kdlib::log(x)) for x > 0
#include "kdlib/backend/cpu.hpp"
#include "kdlib/loss/losses.hpp"

struct Renyi {
  static constexpr bool reads_teacher = true;
  template <class P>
  KDLIB_INLINE kdlib::EntryLoss<P> entry(const kdlib::RowStatistics&, const kdlib::Entry<P>& x) const {
#ifdef KDLIB_CORRECTED
    const P d = x.p_s * kdlib::exp(P(0.5) * x.log_ratio);
#else
    const P d = kdlib::pow(x.p_s, 1.5) * kdlib::pow(x.p_t, -0.5);
#endif
    return {d, P(1.5) * d};
  }
};

void use(kdlib::View<const float, kdlib::Cpu> z, kdlib::View<float, kdlib::Cpu> gradient) {
  kdlib::row_loss(Renyi{}, z, kdlib::LogitTargets<float, kdlib::Cpu>{z}, {}, 1.0, gradient);
}
