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

KDLIB_FUNC void plain_gemm(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k,
                           double alpha, const double* a, std::int64_t lda, const double* b, std::int64_t ldb,
                           double beta, double* c, std::int64_t ldc) {
  std::vector<double> turned;
  if (transpose_b) {
    turned.resize(static_cast<std::size_t>(k * n));
    for (std::int64_t j = 0; j < n; ++j)
      for (std::int64_t i = 0; i < k; ++i) turned[static_cast<std::size_t>(i * n + j)] = b[j * ldb + i];
    b = turned.data();
    ldb = n;
  }
  const std::int64_t grain = std::max<std::int64_t>(1, 65536 / std::max<std::int64_t>(1, k * n));
  parallel_for(m, grain, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t i = begin; i < end; ++i) {
      double* to = c + i * ldc;
      for (std::int64_t j = 0; j < n; ++j) to[j] = beta == 0 ? 0 : beta * to[j];
      for (std::int64_t l = 0; l < k; ++l) {
        const double x = alpha * (transpose_a ? a[l * lda + i] : a[i * lda + l]);
        const double* from = b + l * ldb;
        for (std::int64_t j = 0; j < n; ++j) to[j] += x * from[j];
      }
    }
  });
}

KDLIB_FUNC DenseMatrix multiply(const DenseMatrix& a, const DenseMatrix& b, DenseGemm gemm) {
  detail::require_product("multiply", a, a.columns, b, b.rows);
  DenseMatrix out(a.rows, b.columns);
  gemm(false, false, a.rows, b.columns, a.columns, 1, a.values.data(), a.columns, b.values.data(), b.columns, 0,
       out.values.data(), out.columns);
  return out;
}

KDLIB_FUNC DenseMatrix multiply_transposed(const DenseMatrix& a, const DenseMatrix& b, DenseGemm gemm) {
  detail::require_product("multiply_transposed", a, a.rows, b, b.rows);
  DenseMatrix out(a.columns, b.columns);
  gemm(true, false, a.columns, b.columns, a.rows, 1, a.values.data(), a.columns, b.values.data(), b.columns, 0,
       out.values.data(), out.columns);
  return out;
}

KDLIB_FUNC DenseMatrix multiply_by_transposed(const DenseMatrix& a, const DenseMatrix& b, DenseGemm gemm) {
  detail::require_product("multiply_by_transposed", a, a.columns, b, b.columns);
  DenseMatrix out(a.rows, b.rows);
  gemm(false, true, a.rows, b.rows, a.columns, 1, a.values.data(), a.columns, b.values.data(), b.columns, 0,
       out.values.data(), out.columns);
  return out;
}

/// The lower part by stripes of rows, then its mirror image.
KDLIB_FUNC DenseMatrix gram(const DenseMatrix& a, DenseGemm gemm) {
  constexpr std::int64_t stripe = 192;
  DenseMatrix out(a.rows, a.rows);
  for (std::int64_t i = 0; i < a.rows; i += stripe) {
    const std::int64_t end = std::min(i + stripe, a.rows);
    gemm(false, true, end - i, end, a.columns, 1, a.values.data() + i * a.columns, a.columns, a.values.data(),
         a.columns, 0, out.values.data() + i * a.rows, a.rows);
  }
  for (std::int64_t i = 0; i < a.rows; ++i)
    for (std::int64_t j = 0; j < i; ++j) out(j, i) = out(i, j);
  return out;
}

KDLIB_FUNC void add_product(DenseMatrix& c, double alpha, const DenseMatrix& a, const DenseMatrix& b,
                            bool by_transposed, DenseGemm gemm) {
  detail::require_product("add_product", a, a.columns, b, by_transposed ? b.columns : b.rows);
  const std::int64_t columns = by_transposed ? b.rows : b.columns;
  require<ShapeError>(c.rows == a.rows && c.columns == columns, "[add_product] c is [", c.rows, ", ", c.columns,
                      "], the product [", a.rows, ", ", columns, "]");
  gemm(false, by_transposed, c.rows, c.columns, a.columns, alpha, a.values.data(), a.columns, b.values.data(),
       b.columns, 1, c.values.data(), c.columns);
}

KDLIB_FUNC double trace_of(const DenseMatrix& m) {
  double sum = 0;
  for (std::int64_t i = 0; i < m.rows; ++i) sum += m(i, i);
  return sum;
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

namespace detail {
constexpr std::int64_t triangle_block = 64;  // rows that are solved by loops; what stands beside them is a product
constexpr std::int64_t triangle_strip = 16;  // columns that are solved together: their sums stay in registers

/// T^-1 times `strip` [rows, triangle_strip], in place: a lower triangle T of at most triangle_block rows, `stride`
/// numbers apart. Products are subtracted in the order of the triangle's columns.
inline void solve_strip(const double* triangle, std::int64_t stride, std::int64_t rows, double* strip) {
  for (std::int64_t i = 0; i < rows; ++i) {
    double sums[triangle_strip];
    std::copy_n(strip + i * triangle_strip, triangle_strip, sums);
    for (std::int64_t k = 0; k < i; ++k) {
      const double factor = triangle[i * stride + k];
      for (std::int64_t c = 0; c < triangle_strip; ++c) sums[c] -= factor * strip[k * triangle_strip + c];
    }
    for (std::int64_t c = 0; c < triangle_strip; ++c)
      strip[i * triangle_strip + c] = sums[c] / triangle[i * stride + i];
  }
}

/// The same with T^-T: from the last row up.
inline void solve_strip_transposed(const double* triangle, std::int64_t stride, std::int64_t rows, double* strip) {
  for (std::int64_t i = rows; i-- > 0;) {
    double sums[triangle_strip];
    std::copy_n(strip + i * triangle_strip, triangle_strip, sums);
    for (std::int64_t k = i + 1; k < rows; ++k) {
      const double factor = triangle[k * stride + i];
      for (std::int64_t c = 0; c < triangle_strip; ++c) sums[c] -= factor * strip[k * triangle_strip + c];
    }
    for (std::int64_t c = 0; c < triangle_strip; ++c)
      strip[i * triangle_strip + c] = sums[c] / triangle[i * stride + i];
  }
}

/// Solves `count` <= triangle_strip columns of x [rows, ...] in place by solve_strip or solve_strip_transposed.
template <class Solve>
void solve_columns(Solve solve, const double* triangle, std::int64_t stride, std::int64_t rows, double* x,
                   std::int64_t x_stride, std::int64_t count) {
  double strip[triangle_block * triangle_strip] = {};
  for (std::int64_t i = 0; i < rows; ++i) std::copy_n(x + i * x_stride, count, strip + i * triangle_strip);
  solve(triangle, stride, rows, strip);
  for (std::int64_t i = 0; i < rows; ++i) std::copy_n(strip + i * triangle_strip, count, x + i * x_stride);
}

/// `count` <= triangle_strip rows of x [..., rows] times T^-T, in place; rows of x and of T are `stride` numbers apart.
KDLIB_FUNC void solve_rows(const double* triangle, std::int64_t stride, std::int64_t rows, double* x,
                           std::int64_t count) {
  double strip[triangle_block * triangle_strip] = {};
  for (std::int64_t c = 0; c < count; ++c)
    for (std::int64_t i = 0; i < rows; ++i) strip[i * triangle_strip + c] = x[c * stride + i];
  solve_strip(triangle, stride, rows, strip);
  for (std::int64_t c = 0; c < count; ++c)
    for (std::int64_t i = 0; i < rows; ++i) x[c * stride + i] = strip[i * triangle_strip + c];
}
}  // namespace detail

/// Block columns from left to right: what is left of them is subtracted by one product, the rest is loops.
KDLIB_FUNC std::optional<DenseMatrix> cholesky(const DenseMatrix& m, DenseGemm gemm) {
  detail::require_product("cholesky", m, m.rows, m, m.columns);
  const std::int64_t n = m.rows;
  DenseMatrix s(n, n);
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t j = 0; j <= i; ++j) s(i, j) = m(i, j);
  for (std::int64_t first = 0; first < n; first += detail::triangle_block) {
    const std::int64_t end = std::min(first + detail::triangle_block, n);
    double* row = s.values.data() + first * n;
    if (first > 0) gemm(false, true, n - first, end - first, first, -1, row, n, row, n, 1, row + first, n);
    for (std::int64_t i = first; i < end; ++i)
      for (std::int64_t j = first; j <= i; ++j) {
        double sum = s(i, j);
        for (std::int64_t k = first; k < j; ++k) sum -= s(i, k) * s(j, k);
        if (i != j) {
          s(i, j) = sum / s(j, j);
          continue;
        }
        if (!(sum > 0) || !std::isfinite(sum)) return std::nullopt;
        s(i, i) = std::sqrt(sum);
      }
    for (std::int64_t i = end; i < n; i += detail::triangle_strip)
      detail::solve_rows(row + first, n, end - first, s.values.data() + i * n + first,
                         std::min(detail::triangle_strip, n - i));
    for (std::int64_t i = first; i < end; ++i)
      for (std::int64_t j = i + 1; j < end; ++j) s(i, j) = 0;
  }
  return s;
}

KDLIB_FUNC DenseMatrix solve_lower(const DenseMatrix& s, DenseMatrix b, DenseGemm gemm) {
  detail::require_product("solve_lower", s, s.rows, b, b.rows);
  const std::int64_t n = s.rows, width = b.columns;
  double* x = b.values.data();
  for (std::int64_t first = 0; first < n; first += detail::triangle_block) {
    const std::int64_t end = std::min(first + detail::triangle_block, n);
    if (first > 0)
      gemm(false, false, end - first, width, first, -1, s.values.data() + first * n, n, x, width, 1, x + first * width,
           width);
    for (std::int64_t j = 0; j < width; j += detail::triangle_strip)
      detail::solve_columns(detail::solve_strip, s.values.data() + first * n + first, n, end - first,
                            x + first * width + j, width, std::min(detail::triangle_strip, width - j));
  }
  return b;
}

KDLIB_FUNC DenseMatrix solve_lower_transposed(const DenseMatrix& s, DenseMatrix b, DenseGemm gemm) {
  detail::require_product("solve_lower_transposed", s, s.rows, b, b.rows);
  const std::int64_t n = s.rows, width = b.columns;
  double* x = b.values.data();
  for (std::int64_t end = n; end > 0;) {
    const std::int64_t first = (end - 1) / detail::triangle_block * detail::triangle_block;
    if (end < n)
      gemm(true, false, end - first, width, n - end, -1, s.values.data() + end * n + first, n, x + end * width, width,
           1, x + first * width, width);
    for (std::int64_t j = 0; j < width; j += detail::triangle_strip)
      detail::solve_columns(detail::solve_strip_transposed, s.values.data() + first * n + first, n, end - first,
                            x + first * width + j, width, std::min(detail::triangle_strip, width - j));
    end = first;
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
    std::vector<std::uint8_t> done(n + 1, 0);
    std::size_t column = 0;
    row_of[0] = row;
    do {
      done[column] = 1;
      const std::size_t i = row_of[column];
      double step = infinite;
      std::size_t next = 0;
      for (std::size_t j = 1; j <= n; ++j) {
        if (done[j] != 0) continue;
        const double cost =
            -gain(static_cast<std::int64_t>(i) - 1, static_cast<std::int64_t>(j) - 1) - row_price[i] - column_price[j];
        if (cost < least[j]) least[j] = cost, before[j] = column;
        if (least[j] < step) step = least[j], next = j;
      }
      require<Error>(next != 0, "[best_assignment] a gain is not a finite number");
      for (std::size_t j = 0; j <= n; ++j) {
        if (done[j] != 0) row_price[row_of[j]] += step, column_price[j] -= step;
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
