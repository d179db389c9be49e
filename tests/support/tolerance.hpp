// SPDX-License-Identifier: Apache-2.0
// The one table of tolerances, by scalar type, and the comparisons that use it.
#ifndef KDLIB_TESTS_SUPPORT_TOLERANCE_HPP
#define KDLIB_TESTS_SUPPORT_TOLERANCE_HPP

#include <algorithm>
#include <cmath>
#include <cstddef>

#include "kdlib/core/dtype.hpp"

namespace kdlib_tests {

/// What a comparison of values in T may differ by. Unit roundoff u: double 1.1e-16, float 6.0e-8, f16 4.9e-4,
/// bf16 3.9e-3.
template <class T>
struct Tolerance;

template <>
struct Tolerance<double> {
  static constexpr double elementwise = 1e-14;  // a few roundings, relative to max(1, |expected|)
  static constexpr double reduction = 1e-12;    // sums and products over up to some thousand terms, relative
  static constexpr double model = 1e-10;        // logits after a few layers, absolute
  static constexpr double loss = 1e-12;         // a row loss against its closed form, relative to max(1, |expected|)
  static constexpr double gradient = 1e-10;  // a gradient against a reference, relative to the tensor's largest value
  static constexpr double difference_step = 1e-5;  // of central finite differences
  static constexpr double finite_difference =
      1e-7;  // against central differences, relative to the tensor's largest value
  static constexpr double normalised_square = 1e-22;  // sum (a-b)^2 / sum b^2 between two backends
};

template <>
struct Tolerance<float> {
  static constexpr double elementwise = 2e-6;
  static constexpr double reduction = 2e-5;
  static constexpr double model = 1e-4;
  static constexpr double loss = 1e-5;
  static constexpr double gradient = 1e-4;
  static constexpr double difference_step = 1e-2;
  static constexpr double finite_difference = 1e-2;
  static constexpr double normalised_square = 1e-9;
};

template <>
struct Tolerance<kdlib::f16> {
  static constexpr double elementwise = 1e-3;
  static constexpr double reduction = 4e-3;
  static constexpr double model = 2e-2;
  static constexpr double loss = 4e-3;
  static constexpr double gradient = 1e-2;
  static constexpr double difference_step = 5e-2;
  static constexpr double finite_difference = 5e-2;
  static constexpr double normalised_square = 1e-5;
};

template <>
struct Tolerance<kdlib::bf16> {
  static constexpr double elementwise = 8e-3;
  static constexpr double reduction = 3e-2;
  static constexpr double model = 1e-1;
  static constexpr double loss = 3e-2;
  static constexpr double gradient = 8e-2;
  static constexpr double difference_step = 1e-1;
  static constexpr double finite_difference = 1e-1;
  static constexpr double normalised_square = 5e-4;
};

/// |a - b| <= tolerance * max(1, |b|); NaN is near nothing, an infinity only itself.
inline bool near(double a, double b, double tolerance) {
  if (std::isinf(a) || std::isinf(b)) return a == b;
  return std::abs(a - b) <= tolerance * std::max(1.0, std::abs(b));
}

/// Largest |a_i - b_i|; NaN anywhere gives NaN, which fails every `<`.
template <class A, class B>
double max_difference(const A* a, const B* b, std::size_t n) {
  double worst = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const double d = std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    if (std::isnan(d)) return d;
    worst = std::max(worst, d);
  }
  return worst;
}

/// Largest |a_i - b_i| over the largest |b_i| (gradients: a tensor is one thing, its small entries are sums that
/// cancel).
template <class A, class B>
double scaled_difference(const A* a, const B* b, std::size_t n) {
  double scale = 0;
  for (std::size_t i = 0; i < n; ++i) scale = std::max(scale, std::abs(static_cast<double>(b[i])));
  const double worst = max_difference(a, b, n);
  return scale > 0 ? worst / scale : worst;
}

/// sum (a-b)^2 / sum b^2.
template <class A, class B>
double normalised_square_error(const A* a, const B* b, std::size_t n) {
  double error = 0, total = 0;
  for (std::size_t i = 0; i < n; ++i) {
    const double x = static_cast<double>(a[i]), y = static_cast<double>(b[i]);
    error += (x - y) * (x - y);
    total += y * y;
  }
  return total > 0 ? error / total : error;
}

}  // namespace kdlib_tests

#endif
