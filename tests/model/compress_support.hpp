// SPDX-License-Identifier: Apache-2.0
// Matrices and checks for the tests of compress_experts.
#ifndef KDLIB_TESTS_MODEL_COMPRESS_SUPPORT_HPP
#define KDLIB_TESTS_MODEL_COMPRESS_SUPPORT_HPP

#include <algorithm>
#include <cmath>

#include "kdlib/core/rng.hpp"
#include "kdlib/model/compress_experts.hpp"
#include "support/catch.hpp"

namespace kdlib_tests {

using namespace kdlib;

inline DenseMatrix random_matrix(std::int64_t rows, std::int64_t columns, std::uint64_t seed, double scale = 1) {
  DenseMatrix m(rows, columns);
  const Rng rng(seed, RngPurpose::test);
  for (std::size_t i = 0; i < m.values.size(); ++i) {
    const double u = rng.uniform(static_cast<std::uint32_t>(2 * i)),
                 v = rng.uniform(static_cast<std::uint32_t>(2 * i + 1));
    m.values[i] = scale * std::sqrt(-2 * std::log(1 - u)) * std::cos(6.283185307179586 * v);
  }
  return m;
}

inline double largest_difference(const DenseMatrix& a, const DenseMatrix& b) {
  REQUIRE(a.values.size() == b.values.size());
  double worst = 0;
  for (std::size_t i = 0; i < a.values.size(); ++i) worst = std::max(worst, std::abs(a.values[i] - b.values[i]));
  return worst;
}

/// Experts of which `shared` of the variance is common.
inline std::vector<DenseMatrix> random_experts(std::int64_t count, std::int64_t out, std::int64_t in, double shared) {
  const DenseMatrix common = random_matrix(out, in, 1000, std::sqrt(shared));
  std::vector<DenseMatrix> experts;
  for (std::int64_t e = 0; e < count; ++e) {
    experts.push_back(random_matrix(out, in, static_cast<std::uint64_t>(e), std::sqrt(1 - shared)));
    add_scaled(experts.back(), 1, common);
  }
  return experts;
}

inline void check_never_rises(const CompressReport& report) {
  for (std::size_t i = 1; i < report.steps.size(); ++i) {
    INFO(i << ": " << report.steps[i].name);
    CHECK(report.steps[i].objective <= report.steps[i - 1].objective * (1 + 1e-12) + 1e-14 * report.plain);
  }
}

}  // namespace kdlib_tests

#endif
