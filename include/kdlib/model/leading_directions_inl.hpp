// SPDX-License-Identifier: Apache-2.0
// Bodies of dense_matrix.hpp: the largest eigenvalues of symmetric matrices.
#ifndef KDLIB_MODEL_LEADING_DIRECTIONS_INL_HPP
#define KDLIB_MODEL_LEADING_DIRECTIONS_INL_HPP

#include <algorithm>
#include <cmath>
#include <numeric>
#include <utility>

#include "kdlib/core/rng.hpp"
#include "kdlib/model/dense_matrix_inl.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

/// Rows that are 0 become noise.
KDLIB_FUNC void fill_with_noise(DenseMatrix& m) {
  for (std::int64_t i = 0; i < m.rows; ++i) {
    const double* row = m.values.data() + i * m.columns;
    if (std::any_of(row, row + m.columns, [](double v) { return v != 0; })) continue;
    const Rng rng(1, RngPurpose::initialise, 5, static_cast<std::uint32_t>(i));
    for (std::int64_t j = 0; j < m.columns; ++j) m(i, j) = rng.uniform(static_cast<std::uint32_t>(j)) - 0.5;
  }
}

/// Gram and Schmidt, twice: rows that depend on earlier ones become 0.
KDLIB_FUNC void orthonormal_rows_by_loops(DenseMatrix& m) {
  const auto row = [&m](std::int64_t i) { return m.values.data() + i * m.columns; };
  const auto dot = [&m](const double* x, const double* y) {
    double sum = 0;
    for (std::int64_t j = 0; j < m.columns; ++j) sum += x[j] * y[j];
    return sum;
  };
  for (std::int64_t i = 0; i < m.rows; ++i) {
    double* x = row(i);
    const double before = std::sqrt(dot(x, x));
    for (int time = 0; time < 2; ++time)
      for (std::int64_t k = 0; k < i; ++k) {
        const double part = dot(x, row(k));
        for (std::int64_t j = 0; j < m.columns; ++j) x[j] -= part * row(k)[j];
      }
    const double left = std::sqrt(dot(x, x)), factor = left > 1e-13 * before && left > 0 ? 1 / left : 0;
    for (std::int64_t j = 0; j < m.columns; ++j) x[j] *= factor;
  }
}

/// Rows become orthonormal, by two Cholesky factors of their products or, where those do not exist, by loops. The rows
/// span what they did.
KDLIB_FUNC void orthonormal_rows(DenseMatrix& m, DenseGemm gemm) {
  for (int time = 0; time < 2; ++time) {
    DenseMatrix products = gram(m, gemm);
    // A pivot that is rounding alone must not pass for one: the lengths are brought to 1 first.
    std::vector<double> lengths;
    for (std::int64_t i = 0; i < m.rows; ++i) lengths.push_back(std::sqrt(products(i, i)));
    bool sound = true;
    for (const double length : lengths) sound = sound && length > 0 && std::isfinite(length);
    if (!sound) return orthonormal_rows_by_loops(m);
    for (std::int64_t i = 0; i < m.rows; ++i)
      for (std::int64_t j = 0; j < m.rows; ++j)
        products(i, j) /= lengths[static_cast<std::size_t>(i)] * lengths[static_cast<std::size_t>(j)];
    const auto s = cholesky(products, gemm);
    for (std::int64_t i = 0; s && i < m.rows; ++i) sound = sound && (*s)(i, i) > 1e-6;
    if (!s || !sound) return orthonormal_rows_by_loops(m);
    for (std::int64_t i = 0; i < m.rows; ++i)
      for (std::int64_t j = 0; j < m.columns; ++j) m(i, j) /= lengths[static_cast<std::size_t>(i)];
    m = solve_lower(*s, std::move(m), gemm);
  }
}

/// Eigenvectors of a small symmetric matrix as rows, by falling eigenvalue: cyclic Jacobi rotations until what is
/// beside the diagonal is rounding.
KDLIB_FUNC std::pair<DenseMatrix, std::vector<double>> symmetric_eigen(DenseMatrix m) {
  const std::int64_t n = m.rows;
  DenseMatrix turned = DenseMatrix::identity(n);
  const double enough = 1e-26 * m.squares();
  for (int sweep = 0; sweep < 60; ++sweep) {
    double beside = 0;
    for (std::int64_t i = 0; i < n; ++i)
      for (std::int64_t j = 0; j < i; ++j) beside += m(i, j) * m(i, j);
    if (beside <= enough) break;
    for (std::int64_t p = 0; p + 1 < n; ++p)
      for (std::int64_t q = p + 1; q < n; ++q) {
        const double off = m(p, q);
        if (off * off * static_cast<double>(n * n) <= enough) continue;
        const double zeta = (m(q, q) - m(p, p)) / (2 * off);
        const double t = (zeta >= 0 ? 1.0 : -1.0) / (std::abs(zeta) + std::sqrt(1 + zeta * zeta));
        const double c = 1 / std::sqrt(1 + t * t), s = c * t;
        for (DenseMatrix* rows : {&m, &turned}) {
          double *x = rows->values.data() + p * n, *y = rows->values.data() + q * n;
          for (std::int64_t i = 0; i < n; ++i) {
            const double a = x[i], b = y[i];
            x[i] = c * a - s * b;
            y[i] = s * a + c * b;
          }
        }
        for (std::int64_t i = 0; i < n; ++i) {
          const double a = m(i, p), b = m(i, q);
          m(i, p) = c * a - s * b;
          m(i, q) = s * a + c * b;
        }
      }
  }
  std::vector<std::int64_t> order(static_cast<std::size_t>(n));
  std::iota(order.begin(), order.end(), std::int64_t{0});
  std::stable_sort(order.begin(), order.end(), [&m](std::int64_t a, std::int64_t b) { return m(a, a) > m(b, b); });
  DenseMatrix vectors(n, n);
  std::vector<double> values;
  for (const std::int64_t from : order) {
    const double* row = turned.values.data() + from * n;
    std::copy_n(row, n, vectors.values.data() + static_cast<std::int64_t>(values.size()) * n);
    values.push_back(m(from, from));
  }
  return {std::move(vectors), std::move(values)};
}

}  // namespace detail

KDLIB_FUNC LeadingDirections leading_directions(const DenseMatrix& symmetric, std::int64_t count,
                                                const DenseMatrix& start, DenseGemm gemm, int steps) {
  const std::int64_t n = symmetric.rows;
  detail::require_product("leading_directions", symmetric, n, symmetric, symmetric.columns);
  require<ShapeError>(count >= 1 && count <= n, "[leading_directions] count is ", count, "; a matrix [", n, ", ", n,
                      "] has 1 to ", n);
  require<ShapeError>(start.values.empty() || (start.columns == n && start.rows <= n),
                      "[leading_directions] the start is [", start.rows, ", ", start.columns, "], the matrix [", n,
                      ", ", n, "]");
  const double trace = trace_of(symmetric);
  DenseMatrix block(std::max(count, start.rows), n);
  std::copy(start.values.begin(), start.values.end(), block.values.begin());
  detail::fill_with_noise(block);
  detail::orthonormal_rows(block, gemm);
  double caught = 0;
  DenseMatrix image;
  for (int step = 0;; ++step) {
    image = multiply(block, symmetric, gemm);
    const double now = inner_product(block, image), left = std::max(0.0, trace - now);
    if (step >= steps || (step > 0 && now - caught <= std::max(1e-4 * left, 1e-15 * trace))) break;
    caught = now;
    block = std::move(image);
    detail::orthonormal_rows(block, gemm);
  }
  auto [turn, values] = detail::symmetric_eigen(multiply_by_transposed(block, image, gemm));
  return {multiply(turn, block, gemm), std::move(values)};
}

KDLIB_FUNC double largest_eigenvalue(const DenseMatrix& symmetric, DenseGemm gemm) {
  const std::int64_t n = symmetric.rows;
  detail::require_product("largest_eigenvalue", symmetric, n, symmetric, symmetric.columns);
  DenseMatrix x(1, n);
  detail::fill_with_noise(x);
  double value = 0;
  for (int step = 0; step < 20; ++step) {
    const double length = std::sqrt(x.squares());
    if (!(length > 0)) return 0;
    for (double& v : x.values) v /= length;
    DenseMatrix image = multiply_by_transposed(x, symmetric, gemm);
    const double now = inner_product(x, image);
    x = std::move(image);
    if (std::abs(now - value) <= 1e-4 * now) return now;
    value = now;
  }
  return value;
}

KDLIB_NAMESPACE_END

#endif
