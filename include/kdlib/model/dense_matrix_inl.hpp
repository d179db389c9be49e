// SPDX-License-Identifier: Apache-2.0
// Bodies of dense_matrix.hpp.
#ifndef KDLIB_MODEL_DENSE_MATRIX_INL_HPP
#define KDLIB_MODEL_DENSE_MATRIX_INL_HPP

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

#include "kdlib/core/parallel.hpp"
#include "kdlib/core/stop.hpp"
#include "kdlib/model/dense_matrix.hpp"

KDLIB_NAMESPACE_BEGIN
namespace detail {

KDLIB_FUNC void require_product(const char* what, const DenseMatrix& a, std::int64_t left, const DenseMatrix& b,
                                std::int64_t right) {
  require<ShapeError>(left == right, "[", what, "] a is [", a.rows, ", ", a.columns, "], b is [", b.rows, ", ",
                      b.columns, "]: ", left, " != ", right);
}

}  // namespace detail

KDLIB_FUNC double DenseMatrix::squares() const {
  double sum = 0;
  for (const double v : values) sum += v * v;
  return sum;
}

KDLIB_FUNC DenseMatrix DenseMatrix::transposed() const {
  DenseMatrix out(columns, rows);
  for (std::int64_t i = 0; i < rows; ++i)
    for (std::int64_t j = 0; j < columns; ++j) out(j, i) = (*this)(i, j);
  return out;
}

KDLIB_FUNC DenseMatrix DenseMatrix::identity(std::int64_t size) {
  DenseMatrix out(size, size);
  for (std::int64_t i = 0; i < size; ++i) out(i, i) = 1;
  return out;
}

KDLIB_FUNC DenseMatrix multiply(const DenseMatrix& a, const DenseMatrix& b) {
  detail::require_product("multiply", a, a.columns, b, b.rows);
  DenseMatrix out(a.rows, b.columns);
  const std::int64_t grain = std::max<std::int64_t>(1, 65536 / std::max<std::int64_t>(1, a.columns * b.columns));
  parallel_for(a.rows, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i)
      for (std::int64_t k = 0; k < a.columns; ++k) {
        const double x = a(i, k);
        const double* from = b.values.data() + k * b.columns;
        double* to = out.values.data() + i * out.columns;
        for (std::int64_t j = 0; j < b.columns; ++j) to[j] += x * from[j];
      }
  });
  return out;
}

KDLIB_FUNC DenseMatrix multiply_transposed(const DenseMatrix& a, const DenseMatrix& b) {
  detail::require_product("multiply_transposed", a, a.rows, b, b.rows);
  return multiply(a.transposed(), b);
}

KDLIB_FUNC DenseMatrix multiply_by_transposed(const DenseMatrix& a, const DenseMatrix& b) {
  detail::require_product("multiply_by_transposed", a, a.columns, b, b.columns);
  return multiply(a, b.transposed());
}

KDLIB_FUNC void add_scaled(DenseMatrix& a, double factor, const DenseMatrix& b) {
  require<ShapeError>(a.rows == b.rows && a.columns == b.columns, "[add_scaled] a is [", a.rows, ", ", a.columns,
                      "], b is [", b.rows, ", ", b.columns, "]");
  for (std::size_t i = 0; i < a.values.size(); ++i) a.values[i] += factor * b.values[i];
}

KDLIB_FUNC double inner_product(const DenseMatrix& a, const DenseMatrix& b) {
  require<ShapeError>(a.rows == b.rows && a.columns == b.columns, "[inner_product] a is [", a.rows, ", ", a.columns,
                      "], b is [", b.rows, ", ", b.columns, "]");
  double sum = 0;
  for (std::size_t i = 0; i < a.values.size(); ++i) sum += a.values[i] * b.values[i];
  return sum;
}

namespace detail {

/// Rotates the rows of `work` [k, n] until they are orthogonal, and those of `turned` [k, k] with them.
KDLIB_FUNC void orthogonalise_rows(DenseMatrix& work, DenseMatrix& turned) {
  const std::int64_t k = work.rows;
  const auto rotate = [](DenseMatrix& m, std::int64_t p, std::int64_t q, double c, double s) {
    double *x = m.values.data() + p * m.columns, *y = m.values.data() + q * m.columns;
    for (std::int64_t i = 0; i < m.columns; ++i) {
      const double a = x[i], b = y[i];
      x[i] = c * a - s * b;
      y[i] = s * a + c * b;
    }
  };
  const double nothing = 1e-32 * work.squares();  // below it a product of rows is rounding
  for (int sweep = 0; sweep < 60; ++sweep) {
    check_stop();
    bool still = true;
    for (std::int64_t p = 0; p + 1 < k; ++p)
      for (std::int64_t q = p + 1; q < k; ++q) {
        double alpha = 0, beta = 0, gamma = 0;
        const double *x = work.values.data() + p * work.columns, *y = work.values.data() + q * work.columns;
        for (std::int64_t i = 0; i < work.columns; ++i) {
          alpha += x[i] * x[i];
          beta += y[i] * y[i];
          gamma += x[i] * y[i];
        }
        if (std::abs(gamma) <= 1e-15 * std::sqrt(alpha * beta) + nothing) continue;
        still = false;
        const double zeta = (beta - alpha) / (2 * gamma);
        const double t = (zeta >= 0 ? 1.0 : -1.0) / (std::abs(zeta) + std::sqrt(1 + zeta * zeta));
        const double c = 1 / std::sqrt(1 + t * t), s = c * t;
        rotate(work, p, q, c, s);
        rotate(turned, p, q, c, s);
      }
    if (still) return;
  }
  fail<Error>("[thin_svd] a matrix [", work.columns, ", ", k, "] did not converge in 60 sweeps");
}

}  // namespace detail

KDLIB_FUNC ThinSvd thin_svd(const DenseMatrix& a) {
  if (a.rows < a.columns) {
    ThinSvd other = thin_svd(a.transposed());
    std::swap(other.u, other.v);
    return other;
  }
  const std::int64_t k = a.columns;
  DenseMatrix work = a.transposed(), turned = DenseMatrix::identity(k);  // columns of a and v as rows
  detail::orthogonalise_rows(work, turned);
  std::vector<double> lengths(static_cast<std::size_t>(k));
  for (std::int64_t j = 0; j < k; ++j) {
    double sum = 0;
    for (std::int64_t i = 0; i < a.rows; ++i) sum += work(j, i) * work(j, i);
    lengths[static_cast<std::size_t>(j)] = std::sqrt(sum);
  }
  std::vector<std::int64_t> order(static_cast<std::size_t>(k));
  std::iota(order.begin(), order.end(), std::int64_t{0});
  std::stable_sort(order.begin(), order.end(), [&](std::int64_t x, std::int64_t y) {
    return lengths[static_cast<std::size_t>(x)] > lengths[static_cast<std::size_t>(y)];
  });
  ThinSvd out{DenseMatrix(a.rows, k), DenseMatrix(k, k), {}};
  for (std::int64_t j = 0; j < k; ++j) {
    const std::int64_t from = order[static_cast<std::size_t>(j)];
    const double length = lengths[static_cast<std::size_t>(from)];
    out.s.push_back(length);
    for (std::int64_t i = 0; i < a.rows; ++i) out.u(i, j) = length > 0 ? work(from, i) / length : 0;
    for (std::int64_t i = 0; i < k; ++i) out.v(i, j) = turned(from, i);
  }
  return out;
}

KDLIB_FUNC std::optional<DenseMatrix> cholesky(const DenseMatrix& m) {
  detail::require_product("cholesky", m, m.rows, m, m.columns);
  DenseMatrix s(m.rows, m.rows);
  for (std::int64_t i = 0; i < m.rows; ++i)
    for (std::int64_t j = 0; j <= i; ++j) {
      double sum = m(i, j);
      for (std::int64_t k = 0; k < j; ++k) sum -= s(i, k) * s(j, k);
      if (i != j) {
        s(i, j) = sum / s(j, j);
        continue;
      }
      if (!(sum > 0) || !std::isfinite(sum)) return std::nullopt;
      s(i, i) = std::sqrt(sum);
    }
  return s;
}

KDLIB_FUNC DenseMatrix solve_lower(const DenseMatrix& s, DenseMatrix b) {
  detail::require_product("solve_lower", s, s.rows, b, b.rows);
  for (std::int64_t i = 0; i < b.rows; ++i)
    for (std::int64_t j = 0; j < b.columns; ++j) {
      double sum = b(i, j);
      for (std::int64_t k = 0; k < i; ++k) sum -= s(i, k) * b(k, j);
      b(i, j) = sum / s(i, i);
    }
  return b;
}

KDLIB_FUNC DenseMatrix solve_lower_transposed(const DenseMatrix& s, DenseMatrix b) {
  detail::require_product("solve_lower_transposed", s, s.rows, b, b.rows);
  for (std::int64_t i = b.rows; i-- > 0;)
    for (std::int64_t j = 0; j < b.columns; ++j) {
      double sum = b(i, j);
      for (std::int64_t k = i + 1; k < b.rows; ++k) sum -= s(k, i) * b(k, j);
      b(i, j) = sum / s(i, i);
    }
  return b;
}

/// Rows enter one by one; each takes the cheapest chain of exchanges to a free column, by reduced costs.
KDLIB_FUNC std::vector<std::int64_t> best_assignment(const DenseMatrix& gain) {
  detail::require_product("best_assignment", gain, gain.rows, gain, gain.columns);
  const auto n = static_cast<std::size_t>(gain.rows);
  constexpr double infinite = std::numeric_limits<double>::infinity();
  std::vector<double> row_price(n + 1, 0), column_price(n + 1, 0);
  std::vector<std::size_t> row_of(n + 1, 0), before(n + 1, 0);  // counted from 1; column 0 is the row that enters
  for (std::size_t row = 1; row <= n; ++row) {
    std::vector<double> least(n + 1, infinite);
    std::vector<bool> done(n + 1, false);
    std::size_t column = 0;
    row_of[0] = row;
    do {
      done[column] = true;
      const std::size_t i = row_of[column];
      double step = infinite;
      std::size_t next = 0;
      for (std::size_t j = 1; j <= n; ++j) {
        if (done[j]) continue;
        const double cost =
            -gain(static_cast<std::int64_t>(i) - 1, static_cast<std::int64_t>(j) - 1) - row_price[i] - column_price[j];
        if (cost < least[j]) least[j] = cost, before[j] = column;
        if (least[j] < step) step = least[j], next = j;
      }
      require<Error>(next != 0, "[best_assignment] a gain is not a finite number");
      for (std::size_t j = 0; j <= n; ++j) {
        if (done[j]) row_price[row_of[j]] += step, column_price[j] -= step;
        else least[j] -= step;
      }
      column = next;
    } while (row_of[column] != 0);
    for (; column != 0; column = before[column]) row_of[column] = row_of[before[column]];
  }
  std::vector<std::int64_t> out(n);
  for (std::size_t j = 1; j <= n; ++j) out[row_of[j] - 1] = static_cast<std::int64_t>(j) - 1;
  return out;
}

KDLIB_NAMESPACE_END

#endif
