// SPDX-License-Identifier: Apache-2.0
// Checks a gradient by finite differences: compares the gradient with central differences of the function's value.
#ifndef KDLIB_AUTOGRAD_GRAD_CHECK_HPP
#define KDLIB_AUTOGRAD_GRAD_CHECK_HPP

#include <algorithm>
#include <cmath>
#include <cstdint>

#include "kdlib/config.hpp"

KDLIB_NAMESPACE_BEGIN

/// Returns max |gradient_i - difference_i| / max(1e-3, max |difference_i|) over the elements 0, stride, 2 stride, ...
/// of values[n], or NaN if a difference or a gradient is NaN. `objective()` reads `values` and returns a number. `step`
/// is the half width of the central difference. `values` is changed during the call and restored.
template <class T, class F>
double gradient_error(T* values, const T* gradient, std::int64_t n, double step, F&& objective,
                      std::int64_t stride = 1) {
  double worst = 0, largest = 1e-3;
  for (std::int64_t i = 0; i < n; i += stride) {
    const T kept = values[i];
    values[i] = static_cast<T>(kept + step);
    const double above = objective();
    values[i] = static_cast<T>(kept - step);
    const double below = objective();
    values[i] = kept;
    const double difference = (above - below) / (2 * step);
    largest = std::max(largest, std::abs(difference));
    const double error = std::abs(difference - static_cast<double>(gradient[i]));
    worst = std::isnan(error) ? error : std::max(worst, error);
    if (std::isnan(error)) return error;
  }
  return worst / largest;
}

KDLIB_NAMESPACE_END

#endif
