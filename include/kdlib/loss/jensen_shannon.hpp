// SPDX-License-Identifier: Apache-2.0
// Generalised Jensen-Shannon divergence in the convention of GKD (Agarwal et al., 2024): beta weights the teacher.
#ifndef KDLIB_LOSS_JENSEN_SHANNON_HPP
#define KDLIB_LOSS_JENSEN_SHANNON_HPP

#include "kdlib/loss/concepts.hpp"

KDLIB_NAMESPACE_BEGIN

/// L = beta KL(p_t || m) + (1 - beta) KL(p_s || m), m = beta p_t + (1 - beta) p_s. Gradient (1 - beta) p_s (phi - sum
/// p_s phi) / T with phi = log(p_s / m). beta = 0 is the whole forward KL and beta = 1 the whole reverse KL, as
/// elsewhere in the field, although L itself goes to 0 there; `scaled` divides by beta (1 - beta), which is continuous:
/// forward KL at 0, reverse KL at 1.
struct JensenShannon {
  static constexpr bool reads_teacher = true;
  double beta = 0.5;      // in [0, 1]
  float temperature = 1;  // > 0, of both models
  bool t_squared = true;
  bool scaled = false;

  template <class Self, class F>
  static void visit_fields(Self& self, F&& f) {
    f(FieldInfo{"beta", "", "in [0, 1]", "weight of the teacher in the mixture; 0 and 1: forward and reverse KL"},
      self.beta);
    f(detail::temperature_field, self.temperature);
    f(detail::t_squared_field, self.t_squared);
    f(FieldInfo{"scaled", "", "", "divide by beta (1 - beta)"}, self.scaled);
  }

  template <class P>
  KDLIB_INLINE EntryLoss<P> entry(const RowStatistics&, const Entry<P>& x) const;
  /// value * js_factor() is RowMetrics::js where it is not 0.
  KDLIB_HOST_DEVICE double js_factor() const { return temperature != 1 || beta != 0.5 ? 0 : (scaled ? 0.25 : 1); }
  /// The entropy of (beta, 1 - beta), log 2 at beta = 1/2; infinite at beta = 0 and 1.
  KDLIB_HOST_DEVICE double largest() const;
  void validate() const;
};

KDLIB_NAMESPACE_END

#include "kdlib/loss/jensen_shannon_inl.hpp"
#if KDLIB_HEADER_ONLY
#include "kdlib/loss/loss_checks_inl.hpp"
#endif

#endif
