// SPDX-License-Identifier: Apache-2.0
// Values and derivatives on a support of K tokens, in double: K numbers a row.
#ifndef KDLIB_LOSS_TOP_K_INL_HPP
#define KDLIB_LOSS_TOP_K_INL_HPP

#include <cmath>
#include <limits>

#include "kdlib/loss/top_k.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// p * x with 0 * infinity = 0.
KDLIB_HOST_DEVICE inline double mass_times(double p, double x) { return p == 0 ? 0 : p * x; }

KDLIB_HOST_DEVICE inline double log_sum_exp(std::span<const double> x) {
  double top = -std::numeric_limits<double>::infinity(), sum = 0;
  for (const double v : x) top = v > top ? v : top;
  if (top == -std::numeric_limits<double>::infinity()) return top;
  for (const double v : x) sum += std::exp(v - top);
  return top + std::log(sum);
}

void refuse_renormalised_one(TopKMass mass, std::int64_t size);

}  // namespace detail

KDLIB_HOST_DEVICE inline double TopKForwardKl::on_support(SupportPoint& point) const {
  const std::size_t n = point.log_p_t.size();
  double value = 0;
  if (mass == TopKMass::renormalised) {
    const double t = detail::log_sum_exp(point.log_p_t), s = detail::log_sum_exp(point.log_p_s);
    for (std::size_t k = 0; k < n; ++k) {
      const double a = point.log_p_t[k] - t, b = point.log_p_s[k] - s;
      value += detail::mass_times(std::exp(a), a - b);
      point.derivative[k] = std::exp(b) - std::exp(a);
    }
    point.closed = true;
    return value;
  }
  for (std::size_t k = 0; k < n; ++k) {
    const double p = std::exp(point.log_p_t[k]);
    value += detail::mass_times(p, (mass == TopKMass::sampled ? 0 : point.log_p_t[k]) - point.log_p_s[k]);
    point.derivative[k] = -p;
  }
  if (mass == TopKMass::tail && point.log_tail_s > -std::numeric_limits<double>::infinity()) {
    const double rest = std::exp(point.log_tail_t);
    point.tail_value = detail::mass_times(rest, point.log_tail_t - point.log_tail_s);
    value += point.tail_value;
    point.tail_derivative = -rest;
  }
  return value;
}

inline void TopKForwardKl::check_support(std::int64_t size) const { detail::refuse_renormalised_one(mass, size); }

template <TopKMass Mass>
KDLIB_HOST_DEVICE double TopKReverseKl<Mass>::on_support(SupportPoint& point) const {
  const std::size_t n = point.log_p_t.size();
  const bool inside = Mass == TopKMass::renormalised;
  const double t = inside ? detail::log_sum_exp(point.log_p_t) : 0, s = inside ? detail::log_sum_exp(point.log_p_s) : 0;
  double value = 0;
  for (std::size_t k = 0; k < n; ++k) {
    const double b = point.log_p_s[k] - s;
    value += point.derivative[k] = detail::mass_times(std::exp(b), b - (point.log_p_t[k] - t));
  }
  if (inside) {
    for (std::size_t k = 0; k < n; ++k) point.derivative[k] -= std::exp(point.log_p_s[k] - s) * value;
    point.closed = true;
    return value;
  }
  point.tail_derivative = detail::mass_times(std::exp(point.log_tail_s), point.log_tail_s - point.log_tail_t);
  point.tail_value = point.tail_derivative;
  return value + point.tail_value;
}

template <TopKMass Mass>
void TopKReverseKl<Mass>::check_support(std::int64_t size) const {
  detail::refuse_renormalised_one(Mass, size);
}

KDLIB_NAMESPACE_END

#endif
