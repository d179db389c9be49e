// SPDX-License-Identifier: Apache-2.0
// Cross-entropy of the label: -log p_s(y).
#ifndef KDLIB_LOSS_CROSS_ENTROPY_HPP
#define KDLIB_LOSS_CROSS_ENTROPY_HPP

#include "kdlib/loss/concepts.hpp"

KDLIB_NAMESPACE_BEGIN

/// L = -log p_s(y) for the label y, with p_s = softmax(z / T). The gradient is (p_s - 1[y]) / T, times T^2 if
/// t_squared.
struct CrossEntropy {
  float temperature = 1;  // > 0
  bool t_squared = true;

  template <class Self, class F>
  static void visit_fields(Self& self, F&& f) {
    f(detail::temperature_field, self.temperature);
    f(detail::t_squared_field, self.t_squared);
  }

  KDLIB_HOST_DEVICE Dual at_label(const LabelPoint& point) const { return -point.log_prob; }
};

KDLIB_NAMESPACE_END

#endif
