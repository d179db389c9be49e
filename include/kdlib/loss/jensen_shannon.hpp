// SPDX-License-Identifier: Apache-2.0
// Generalised Jensen-Shannon divergence in the convention of GKD (Agarwal et al., 2024): beta weights the teacher.
#ifndef KDLIB_LOSS_JENSEN_SHANNON_HPP
#define KDLIB_LOSS_JENSEN_SHANNON_HPP

#include "kdlib/loss/concepts.hpp"

KDLIB_NAMESPACE_BEGIN

/// L = beta KL(p_t || m) + (1 - beta) KL(p_s || m) with m = beta p_t + (1 - beta) p_s, where p_t is the teacher and p_s
/// the student. The gradient is (1 - beta) p_s (phi - sum p_s phi) / T with phi = log(p_s / m), times T^2 if t_squared.
/// At beta = 0 the loss is defined as the forward KL and at beta = 1 as the reverse KL, as is usual, although L goes to
/// 0 towards both ends. `scaled` divides L by beta (1 - beta), which makes the loss continuous: forward KL at 0,
/// reverse KL at 1.
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
  /// Returns the factor by which the value becomes RowMetrics::js, or 0 if there is no such factor.
  KDLIB_HOST_DEVICE double js_factor() const { return temperature != 1 || beta != 0.5 ? 0 : (scaled ? 0.25 : 1); }
  /// Returns the entropy of (beta, 1 - beta), which is log 2 at beta = 1/2, divided by beta (1 - beta) if `scaled`.
  /// Infinite at beta = 0 and 1.
  KDLIB_HOST_DEVICE double largest() const;
  void validate() const;
};

KDLIB_NAMESPACE_END

#include "kdlib/loss/jensen_shannon_inl.hpp"
#if KDLIB_HEADER_ONLY
#include "kdlib/loss/loss_checks_inl.hpp"
#endif

#endif
